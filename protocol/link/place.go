package link

import "bytes"

// Limits of a place.
const (
	MaxAddrs = 8   // addresses of the rendezvous
	MaxAddr  = 128 // bytes of one address as text
	MaxPeer  = 64  // bytes of a peer id
)

// Place is where a rendezvous can be reached.
type Place struct {
	Peer  []byte   // its libp2p peer id, 1 to MaxPeer bytes
	Addrs []string // multiaddrs as text, 1 to MaxAddrs, without /p2p
}

// Append appends the encoding of p, which must be within the limits, to b:
//
//	1+p  length of the peer id, peer id
//	1    number of addresses, then each: length 1 byte, text
func (p Place) Append(b []byte) []byte {
	b = append(b, byte(len(p.Peer)))
	b = append(b, p.Peer...)
	b = append(b, byte(len(p.Addrs)))
	for _, a := range p.Addrs {
		b = append(b, byte(len(a)))
		b = append(b, a...)
	}
	return b
}

// CutPlace takes a place off the front of b. It keeps nothing of b.
func CutPlace(b []byte) (p Place, rest []byte, err error) {
	p.Peer, b, err = CutField(b, MaxPeer)
	if err != nil {
		return Place{}, nil, err
	}
	if len(b) == 0 || b[0] == 0 || b[0] > MaxAddrs {
		return Place{}, nil, ErrDamaged
	}
	n, b := int(b[0]), b[1:]
	for range n {
		var addr []byte
		addr, b, err = CutField(b, MaxAddr)
		if err != nil {
			return Place{}, nil, err
		}
		if !plainAddr(addr) {
			return Place{}, nil, ErrDamaged
		}
		p.Addrs = append(p.Addrs, string(addr))
	}
	return p, b, nil
}

// CutField takes a field of 1 to limit bytes, which its length in one byte
// precedes, off the front of b. It keeps nothing of b.
func CutField(b []byte, limit int) (field, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, ErrDamaged
	}
	n := int(b[0])
	if n == 0 || n > limit || n > len(b)-1 {
		return nil, nil, ErrDamaged
	}
	return bytes.Clone(b[1 : 1+n]), b[1+n:], nil
}

// plainAddr keeps anything that could disturb a terminal out of addresses;
// whether they are multiaddrs is for the one who dials to find out.
func plainAddr(a []byte) bool {
	for _, c := range a {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return a[0] == '/'
}
