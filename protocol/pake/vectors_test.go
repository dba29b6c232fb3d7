package pake

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"strings"
	"testing"

	"github.com/gtank/ristretto255"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

// draft holds the vectors of the draft, appendix B.3.
type draft struct {
	PRS             keytest.Hex   `json:"prs"`
	CI              keytest.Hex   `json:"ci"`
	SID             keytest.Hex   `json:"sid"`
	GeneratorString keytest.Hex   `json:"generator_string"`
	Hash            keytest.Hex   `json:"hash"`
	G               keytest.Hex   `json:"g"`
	ScalarA         keytest.Hex   `json:"ya"`
	ADA             keytest.Hex   `json:"ad_a"`
	ShareA          keytest.Hex   `json:"share_a"`
	ScalarB         keytest.Hex   `json:"yb"`
	ADB             keytest.Hex   `json:"ad_b"`
	ShareB          keytest.Hex   `json:"share_b"`
	K               keytest.Hex   `json:"k"`
	ISK             keytest.Hex   `json:"isk_ir"`
	SIDOutput       keytest.Hex   `json:"sid_output_ir"`
	ValidS          keytest.Hex   `json:"valid_s"`
	ValidX          keytest.Hex   `json:"valid_x"`
	ValidResult     keytest.Hex   `json:"valid_result"`
	Invalid         []keytest.Hex `json:"invalid"`
}

func loadDraft(t testing.TB) (v draft) {
	t.Helper()
	keytest.LoadGolden(t, "draft21-ristretto255.json", &v)
	return v
}

func (v draft) common() Common {
	return Common{Password: v.PRS, Channel: v.CI, Session: v.SID}
}

func scalar(t testing.TB, b []byte) *ristretto255.Scalar {
	t.Helper()
	s, err := ristretto255.NewScalar().SetCanonicalBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s\n got %x\nwant %x", what, got, want)
	}
}

func TestDraftVectors(t *testing.T) {
	v := loadDraft(t)
	text := generatorString(v.PRS, v.CI, v.SID)
	same(t, "generator string", text, v.GeneratorString)
	hash := sha512.Sum512(text)
	same(t, "hash", hash[:], v.Hash)
	same(t, "generator", generator(v.PRS, v.CI, v.SID).Bytes(), v.G)

	a := newParty(Initiator, v.common(), v.ADA, scalar(t, v.ScalarA))
	b := newParty(Responder, v.common(), v.ADB, scalar(t, v.ScalarB))
	same(t, "Ya", a.Share(), v.ShareA)
	same(t, "Yb", b.Share(), v.ShareB)
	for _, side := range []struct{ scalar, share []byte }{{v.ScalarA, v.ShareB}, {v.ScalarB, v.ShareA}} {
		k, err := multiply(scalar(t, side.scalar), side.share)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "K", k, v.K)
	}
	atA, err := a.Finish(b.Share(), v.ADB)
	if err != nil {
		t.Fatal(err)
	}
	atB, err := b.Finish(a.Share(), v.ADA)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []*Unconfirmed{atA, atB} {
		same(t, "ISK", u.keys.isk()[:], v.ISK)
		same(t, "sid_output", u.keys.Session(), v.SIDOutput)
	}
}

// Section 9: an implementation is tested against points that are invalid or
// neutral.
func TestDraftInvalidShares(t *testing.T) {
	v := loadDraft(t)
	good, err := multiply(scalar(t, v.ValidS), v.ValidX)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "valid X", good, v.ValidResult)
	for _, y := range v.Invalid {
		if _, err := multiply(scalar(t, v.ValidS), y); !errors.Is(err, ErrShare) {
			t.Errorf("scalar_mult_vfy of %x: %v", []byte(y), err)
		}
		for _, role := range []Role{Initiator, Responder} {
			if _, err := New(role, v.common(), nil).Finish(y, nil); !errors.Is(err, ErrShare) {
				t.Errorf("share %x: %v", []byte(y), err)
			}
		}
	}
}

// Appendix A of the draft: prepend_len and lv_cat.
func TestDraftStrings(t *testing.T) {
	for text, want := range map[string]string{
		"":     "\x00",
		"1234": "\x041234",
	} {
		if got := string(prependLen([]byte(text))); got != want {
			t.Errorf("prepend_len(%q) = %q", text, got)
		}
	}
	for n, want := range map[int]string{127: "\x7f", 128: "\x80\x01"} {
		if got := string(prependLen(make([]byte, n))); !strings.HasPrefix(got, want) || len(got) != len(want)+n {
			t.Errorf("length %d is encoded as %x", n, got[:2])
		}
	}
	if got := string(lvCat([]byte("1234"), []byte("5"), nil, []byte("678"))); got != "\x041234\x015\x00\x03678" {
		t.Errorf("lv_cat = %q", got)
	}
}

// ours is what the draft has no vectors for: confirmations and derived keys,
// out of the draft's own run.
type ours struct {
	Comment       string      `json:"comment"`
	ConfirmationA keytest.Hex `json:"confirmation_a"`
	ConfirmationB keytest.Hex `json:"confirmation_b"`
	Purpose       string      `json:"purpose"`
	Derived       keytest.Hex `json:"derived"`
}

func TestOurVectors(t *testing.T) {
	v := loadDraft(t)
	a := newParty(Initiator, v.common(), v.ADA, scalar(t, v.ScalarA))
	b := newParty(Responder, v.common(), v.ADB, scalar(t, v.ScalarB))
	atA, err := a.Finish(b.Share(), v.ADB)
	if err != nil {
		t.Fatal(err)
	}
	atB, err := b.Finish(a.Share(), v.ADA)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := atA.Confirm(atB.Confirmation())
	if err != nil {
		t.Fatal(err)
	}
	derived := keys.Derive("test")
	keytest.Golden(t, "confirm.json", ours{
		Comment:       "the run of draft21-ristretto255.json",
		ConfirmationA: atA.Confirmation(), ConfirmationB: atB.Confirmation(),
		Purpose: "test", Derived: derived[:],
	})
}
