package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
)

const maxRedirects = 3

// ErrTarget is returned for a key-set address that must not be asked.
var ErrTarget = errors.New("the address of the key set is not allowed")

// HTTPFetch reads a key set at a URL: over https, from public addresses only,
// through no proxy, within fetchTimeout, at most MaxSet bytes and maxRedirects
// redirects. With local also over http and from addresses of one's own machine
// and networks.
//
// The address is checked when it is dialed, after names are resolved, and for
// each redirect again: a name or a redirect leads nowhere else.
func HTTPFetch(address string, local bool) (Fetch, error) {
	mayDial := checkPublic
	if local {
		mayDial = func(string) error { return nil }
	}
	return fetchFrom(address, local, mayDial)
}

// fetchFrom is HTTPFetch that connects to an IP address and port only if mayDial
// returns nil. Plain says whether http will do.
func fetchFrom(address string, plain bool, mayDial func(string) error) (Fetch, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTarget, err)
	}
	if err := checkURL(u, plain); err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		Timeout: fetchTimeout,
		Control: func(_, address string, _ syscall.RawConn) error { return mayDial(address) },
	}
	client := &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableCompression:     true,
			MaxResponseHeaderBytes: MaxSet,
			TLSHandshakeTimeout:    fetchTimeout,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(next *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%w: more than %d redirects", ErrTarget, maxRedirects)
			}
			return checkURL(next.URL, plain)
		},
	}
	return func(ctx context.Context, etag string) ([]byte, error) { return get(ctx, client, address, etag) }, nil
}

func checkURL(u *url.URL, plain bool) error {
	switch {
	case u.Hostname() == "" || u.User != nil:
		return fmt.Errorf("%w: no plain URL with a host", ErrTarget)
	case u.Scheme == "https", u.Scheme == "http" && plain:
		return nil
	}
	return fmt.Errorf("%w: %q instead of https", ErrTarget, u.Scheme)
}

func get(ctx context.Context, client *http.Client, address, etag string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Cache-Control", "no-cache") // a cache on the way may not know of a revocation
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if etag != "" && resp.StatusCode == http.StatusNotModified {
		return nil, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answer %d", resp.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, MaxSet+1))
	if err != nil {
		return nil, err
	}
	if len(doc) > MaxSet {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrBadSet, MaxSet)
	}
	return doc, nil
}

// special are the networks besides those that netip knows which are nobody's
// public address (IANA special-purpose registries), or lead into such ones.
var special = parsePrefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "fec0::/10",
)

func parsePrefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// checkPublic refuses to dial what is not a public address.
func checkPublic(address string) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTarget, err)
	}
	ip := to.Addr().Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return fmt.Errorf("%w: %s is not public", ErrTarget, ip)
	}
	for _, p := range special {
		if p.Contains(ip) {
			return fmt.Errorf("%w: %s is not public", ErrTarget, ip)
		}
	}
	return nil
}
