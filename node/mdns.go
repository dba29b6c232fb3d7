package node

import (
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/parley-chat/parley/protocol"
)

// Multicast DNS (RFC 6762), as far as it takes to find libp2p peers: a PTR
// question for the service, answered by a PTR to a random instance name and
// that instance's TXT record, whose strings are "dnsaddr=" and an address with
// the peer id. The layout is that of libp2p's mDNS discovery, under a service
// of our own.
const (
	mdnsService = "_parley._udp.local."
	mdnsPrefix  = "dnsaddr="
	mdnsTTL     = 120  // seconds
	mdnsMax     = 9000 // bytes of a packet (RFC 6762, section 17)
	mdnsAddrs   = 8    // of one peer; keeps a packet below 1500 bytes
)

// mdnsQuery asks who is there.
func mdnsQuery() ([]byte, error) {
	name, err := dnsmessage.NewName(mdnsService)
	if err != nil {
		return nil, fmt.Errorf("encode service name: %w", err)
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}
	return m.Pack()
}

// mdnsAnswer says that self is at addrs.
func mdnsAnswer(instance string, self peer.ID, addrs []ma.Multiaddr) ([]byte, error) {
	service, err := dnsmessage.NewName(mdnsService)
	if err != nil {
		return nil, fmt.Errorf("encode service name: %w", err)
	}
	own, err := dnsmessage.NewName(instance + "." + mdnsService)
	if err != nil {
		return nil, fmt.Errorf("encode instance name: %w", err)
	}
	var txt dnsmessage.TXTResource
	for _, a := range addrs {
		text := mdnsPrefix + a.String() + "/p2p/" + self.String()
		if len(text) <= 255 && len(txt.TXT) < mdnsAddrs {
			txt.TXT = append(txt.TXT, text)
		}
	}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{Response: true, Authoritative: true},
		Answers: []dnsmessage.Resource{
			{Header: dnsmessage.ResourceHeader{Name: service, Class: dnsmessage.ClassINET, TTL: mdnsTTL}, Body: &dnsmessage.PTRResource{PTR: own}},
			{Header: dnsmessage.ResourceHeader{Name: own, Class: dnsmessage.ClassINET, TTL: mdnsTTL}, Body: &txt},
		},
	}
	return m.Pack()
}

// readMDNS takes a packet apart: whether it asks for our service, and which
// peers it says are where. Anything else is nothing.
func readMDNS(packet []byte) (asks bool, found map[peer.ID][]ma.Multiaddr) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil {
		return false, nil
	}
	if !h.Response {
		for {
			q, err := p.Question()
			if err != nil {
				return asks, nil
			}
			asks = asks || q.Type == dnsmessage.TypePTR && strings.EqualFold(q.Name.String(), mdnsService)
		}
	}
	if p.SkipAllQuestions() != nil {
		return false, nil
	}
	found = map[peer.ID][]ma.Multiaddr{}
	for {
		r, err := p.AnswerHeader()
		if err != nil {
			return false, found
		}
		if r.Type != dnsmessage.TypeTXT || !strings.HasSuffix(strings.ToLower(r.Name.String()), "."+mdnsService) {
			if p.SkipAnswer() != nil {
				return false, found
			}
			continue
		}
		txt, err := p.TXTResource()
		if err != nil {
			return false, found
		}
		addTXT(found, txt.TXT)
	}
}

func addTXT(found map[peer.ID][]ma.Multiaddr, texts []string) {
	for _, text := range texts {
		text, ok := strings.CutPrefix(text, mdnsPrefix)
		if !ok {
			continue
		}
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			continue
		}
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil || len(info.Addrs) != 1 || len(found[info.ID]) >= protocol.MaxAddrs {
			continue
		}
		found[info.ID] = append(found[info.ID], info.Addrs[0])
	}
}
