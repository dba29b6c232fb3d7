package token

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

func mustFetch(t *testing.T, address string) Fetch {
	t.Helper()
	fetch, err := HTTPFetch(address, true)
	if err != nil {
		t.Fatal(err)
	}
	return fetch
}

func TestHTTPFetch(t *testing.T) {
	set := mustSet(t, issuerName, 1, testKey(1))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cache-Control") != "no-cache" {
			t.Error("a cache may answer")
		}
		if r.Header.Get("If-None-Match") == set.ETag() {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write(set.JSON())
	}))
	defer server.Close()
	fetch := mustFetch(t, server.URL)
	if doc, err := fetch(t.Context(), ""); err != nil || string(doc) != string(set.JSON()) {
		t.Errorf("got %q, %v", doc, err)
	}
	if doc, err := fetch(t.Context(), set.ETag()); err != nil || doc != nil {
		t.Errorf("unchanged: %q, %v", doc, err)
	}
}

// TestJWK08_BadServers: a server cannot feed without end, lead around, or
// claim that nothing has changed when there was nothing.
func TestJWK08_BadServers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		for range 64 {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/header", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 4*MaxSet))
	})
	mux.HandleFunc("/hop/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/hop/"))
		if n == 0 {
			w.Write([]byte("end"))
			return
		}
		http.Redirect(w, r, "/hop/"+strconv.Itoa(n-1), http.StatusFound)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://user@"+r.Host+"/hop/0", http.StatusFound)
	})
	mux.HandleFunc("/same", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) })
	mux.HandleFunc("/compressed", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("compression is offered: %v", r.Header)
		}
		w.WriteHeader(http.StatusTeapot)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, path := range []string{"/long", "/header", "/hop/4", "/file", "/same", "/gone", "/compressed"} {
		if doc, err := mustFetch(t, server.URL+path)(t.Context(), ""); err == nil {
			t.Errorf("%s: got %d bytes", path, len(doc))
		}
	}
	for _, path := range []string{"/hop/4", "/file", "/user"} {
		if _, err := mustFetch(t, server.URL+path)(t.Context(), ""); !errors.Is(err, ErrTarget) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if doc, err := mustFetch(t, server.URL+"/hop/3")(t.Context(), ""); err != nil || string(doc) != "end" {
		t.Errorf("three redirects: %q, %v", doc, err)
	}
}

// endless is a server whose answer does not end before a megabyte.
type endless struct{ sent int }

func (e *endless) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(e)}, nil
}

func (e *endless) Read(b []byte) (int, error) {
	if e.sent >= 1<<20 {
		return 0, io.EOF
	}
	e.sent += len(b)
	return len(b), nil
}

// TestJWK08_NoMoreIsRead: of a document that is too long, little is read.
func TestJWK08_NoMoreIsRead(t *testing.T) {
	e := &endless{}
	if _, err := get(t.Context(), &http.Client{Transport: e}, "http://a/", ""); !errors.Is(err, ErrBadSet) {
		t.Errorf("got %v", err)
	}
	if e.sent > 2*MaxSet {
		t.Errorf("%d bytes were read", e.sent)
	}
}

// TestJWK08_PrivateTargets: unless it is allowed, no address of one's own
// machine or networks is asked, whether named, given as number, or reached by
// name resolution; and nothing over plain http.
func TestJWK08_PrivateTargets(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the request arrived")
	}))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		fetch, err := HTTPFetch("https://"+host+":"+port+"/", false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fetch(t.Context(), ""); !errors.Is(err, ErrTarget) {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, address := range []string{
		"http://example.org/", "ftp://example.org/", "file:///etc/passwd", "https:///x", "https://user@example.org/", "example.org", "%",
	} {
		if _, err := HTTPFetch(address, false); !errors.Is(err, ErrTarget) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for address, public := range map[string]bool{
		"1.1.1.1:443": true, "[2606:4700::1111]:443": true,
		"10.0.0.1:443": false, "172.16.0.1:443": false, "192.168.1.1:443": false, "169.254.169.254:80": false,
		"100.64.0.1:443": false, "198.18.0.1:1": false, "224.0.0.1:1": false, "255.255.255.255:1": false,
		"[fe80::1]:443": false, "[fd00::1]:443": false, "[ff02::1]:1": false, "[::]:443": false,
		"[64:ff9b::a00:1]:443": false, "[2002:a00:1::]:443": false, "[::ffff:10.0.0.1]:443": false, "nonsense": false,
	} {
		if err := checkPublic(address); (err == nil) != public {
			t.Errorf("%s: %v", address, err)
		}
	}
}
