package account

import (
	"errors"
	"strings"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/link"
)

// VerifyPrefix begins every verification code. What follows is in the URL's
// fragment, which a browser never sends to anyone.
const VerifyPrefix = "parley://verify#"

// ErrNotVerifyCode is returned for text that is no verification code.
var ErrNotVerifyCode = errors.New("not a verification code, or a damaged one: it begins with " + VerifyPrefix)

const (
	verifyVersion = 1
	verifyDomain  = "parley/1 verify"
)

// Verdict is what a verification code tells.
type Verdict uint8

const (
	NotAboutUs Verdict = iota // it is about other people; or it is one's own
	Match                     // both devices know both accounts alike: nobody is in between
	Mismatch                  // they do not: somebody is, or one of the two was deceived
)

func (v Verdict) String() string {
	switch v {
	case Match:
		return "match"
	case Mismatch:
		return "mismatch"
	}
	return "not about us"
}

// VerifyCode is the safety number as text for a QR code: the one who shows it
// says who he is and whom he knows. It is no secret, and proves nothing unless
// it comes straight from the other person's screen.
func VerifyCode(own, other protocol.AccountID, ownName, otherName string) string {
	b := append([]byte{verifyVersion}, own[:]...)
	b = append(b, other[:]...)
	for _, name := range []string{ownName, otherName} {
		b = append(b, byte(len(name)))
		b = append(b, name...)
	}
	return link.Encode(VerifyPrefix, verifyDomain, b)
}

// CheckVerifyCode compares the code on another person's screen with what this
// device knows: the own account, that person's, and their unique names.
func CheckVerifyCode(text string, own, other protocol.AccountID, ownName, otherName string) (Verdict, error) {
	c, err := parseVerifyCode(text)
	if err != nil {
		return NotAboutUs, err
	}
	accounts := c.own == other && c.other == own
	names := c.ownName == otherName && c.otherName == ownName
	switch {
	case accounts && names:
		return Match, nil
	case accounts || names:
		return Mismatch, nil
	}
	return NotAboutUs, nil
}

// verifyCode is what a code says; own is who shows it.
type verifyCode struct {
	own, other         protocol.AccountID
	ownName, otherName string
}

func parseVerifyCode(text string) (c verifyCode, err error) {
	b, err := link.Decode(VerifyPrefix, verifyDomain, text)
	if err != nil || len(b) < 1+32+32 || b[0] != verifyVersion {
		return verifyCode{}, ErrNotVerifyCode
	}
	copy(c.own[:], b[1:])
	copy(c.other[:], b[1+32:])
	b = b[1+32+32:]
	for _, name := range []*string{&c.ownName, &c.otherName} {
		var field []byte
		field, b, err = link.CutField(b, protocol.MaxName)
		if err != nil || strings.Trim(string(field), "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return verifyCode{}, ErrNotVerifyCode
		}
		*name = string(field)
	}
	if len(b) != 0 {
		return verifyCode{}, ErrNotVerifyCode
	}
	return c, nil
}
