package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
)

func TestFrameRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	want := []*Deliver{{}, {Envelopes: [][]byte{{1, 2, 3}, nil, make([]byte, protocol.MaxEnvelope)}}}
	for _, m := range want {
		if err := WriteMsg(&buf, m); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range want {
		var got Deliver
		if err := ReadMsg(&buf, &got); err != nil || !proto.Equal(&got, m) {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if err := ReadMsg(&buf, &Deliver{}); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestFrameRefused(t *testing.T) {
	header := func(n uint32, body ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), body...)
	}
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"oversized":   {header(protocol.MaxFrame + 1), ErrFrameTooLarge},
		"absurd":      {header(1<<32 - 1), ErrFrameTooLarge},
		"cut header":  {[]byte{0, 0}, io.ErrUnexpectedEOF},
		"cut body":    {header(5, 1, 2), io.ErrUnexpectedEOF},
		"header only": {header(5), io.ErrUnexpectedEOF},
	} {
		if err := ReadMsg(bytes.NewReader(c.in), &Deliver{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if err := ReadMsg(bytes.NewReader(header(2, 0xff, 0xff)), &Deliver{}); err == nil {
		t.Error("garbage body accepted")
	}
	big := &Deliver{Envelopes: [][]byte{make([]byte, protocol.MaxFrame)}}
	if err := WriteMsg(io.Discard, big); !errors.Is(err, ErrFrameTooLarge) {
		t.Errorf("oversized write: %v", err)
	}
}

// Many empty items take two bytes each on the wire and a hundred in memory.
func TestFieldsAreBounded(t *testing.T) {
	read := func(m proto.Message, into proto.Message) error {
		var buf bytes.Buffer
		if err := WriteMsg(&buf, m); err != nil {
			t.Fatal(err)
		}
		return ReadMsg(&buf, into)
	}
	put := &Put{Items: make([]*PutItem, maxFields+1)}
	for i := range put.Items {
		put.Items[i] = &PutItem{}
	}
	if err := read(&Request{Call: &Request_Put{Put: put}}, &Request{}); !errors.Is(err, ErrTooManyFields) {
		t.Errorf("%d empty items: %v", len(put.Items), err)
	}
	unknown := &Deliver{}
	unknown.ProtoReflect().SetUnknown(bytes.Repeat([]byte{0xf8, 0x06, 0}, maxFields+1))
	if err := read(unknown, &Deliver{}); !errors.Is(err, ErrTooManyFields) {
		t.Errorf("unknown fields: %v", err)
	}
	contacts := &SetContacts{Accounts: make([][]byte, protocol.MaxContacts)}
	for i := range contacts.Accounts {
		contacts.Accounts[i] = make([]byte, 32)
	}
	if err := read(&Request{Call: &Request_SetContacts{SetContacts: contacts}}, &Request{}); err != nil {
		t.Errorf("the longest allow list: %v", err)
	}
	heads := &HeadList{Heads: make([]*Head, protocol.MaxContacts+1)}
	for i := range heads.Heads {
		heads.Heads[i] = &Head{Account: make([]byte, 32), Head: make([]byte, 16)}
	}
	if err := read(&Response{Result: &Response_HeadList{HeadList: heads}}, &Response{}); err != nil {
		t.Errorf("the heads of the longest allow list: %v", err)
	}
}

func FuzzReadMsg(f *testing.F) {
	var buf bytes.Buffer
	WriteMsg(&buf, &Request{Call: &Request_Lookup{Lookup: &Lookup{Name: "bob"}}})
	f.Add(buf.Bytes())
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, m := range []proto.Message{&Request{}, &Response{}, &Beat{}, &Welcome{}, &Hint{}, &Deliver{}, &Delivered{}, &PairJoin{}, &PairJoined{}, &PairFrame{}} {
			ReadMsg(bytes.NewReader(in), m)
		}
	})
}
