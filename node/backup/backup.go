// Package backup is the file a person keeps for the day the laptop is gone. It
// holds what the account is: its name, its rendezvous, its statement chain, the
// account key, the contacts and whether they were verified, the rooms and the keys of
// their names, and, if asked for, the conversations.
//
// It never holds what a device is: no device key, no session, no prekey. Who
// restores becomes a new device of the account, so that nothing that was ever
// used to seal a message is used twice.
//
// The file is an age file (age-encryption.org/v1) with one scrypt recipient:
// a passphrase, or the recovery words, which are one. Inside it:
//
//	"parley backup\n" ‖ version u16 ‖ records
//	record = kind u8 ‖ length u32 ‖ body
//
//	1 head     once, first: created u64 (ms since 1970) ‖ lp(name) ‖ lp(display) ‖
//	           lp(peer id of the rendezvous) ‖ n u8 ‖ n times lp(address) ‖ lp(chain) ‖
//	           account key 32 ‖ has u8 ‖ recovery key 32 if has is 1
//	2 contact  wire.ContactState
//	5 room     wire.RoomState
//	6 log      wire.RoomLog: of the room before, if the account is in it no more
//	3 past     wire.Past: messages of one contact or room, newest first
//	4 end      once, last: contacts u32 ‖ past records u32 ‖ messages u64 ‖
//	           SHA-256 of everything before this record
//
// Numbers are big-endian, lp is a length u32 and that many bytes. Everything is
// read in this order, and a file that ends otherwise is refused: Open returns
// nothing of a file that it has not read to its end. Version 1 had no rooms.
//
// The package does no network, starts nothing and knows no folder: it reads and
// writes what it is handed.
package backup

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/text/unicode/norm"

	"filippo.io/age"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/words"
)

// Errors of Open. Each leaves everything as it was.
var (
	ErrNotBackup   = errors.New("this is not a backup of parley")
	ErrWrongSecret = errors.New("this passphrase, or these words, do not open the backup")
	ErrDamaged     = errors.New("the backup is damaged or cut off")
	ErrNewer       = errors.New("the backup was made by a newer version of parley")
)

// Work factors of scrypt, as powers of two. Nobody guesses 256 random bits, so
// words need no more than the smallest; a passphrase costs 256 MiB and about a
// second. A file that asks for more is refused: it could ask for any amount.
const (
	workWords      = 10
	workPassphrase = 18
	maxWork        = 18
)

// Secret is what opens a backup. It prints as "redacted".
type Secret struct {
	key.Redacted
	text key.Hidden[string]
	work int
}

// FromPassphrase makes a secret of a passphrase, brought to one form of
// Unicode: another computer may type the same letters as other bytes. An empty
// one opens and seals nothing.
func FromPassphrase(passphrase []byte) Secret {
	text := norm.NFC.String(string(passphrase))
	return Secret{text: key.Hide(&text), work: workPassphrase}
}

// FromWords makes a secret of the recovery key: its 24 words, in small letters,
// one space between them. The age program opens the file with this text too.
func FromWords(rk key.RecoveryPrivate) Secret {
	list, err := words.Recovery(rk.Bytes())
	if err != nil {
		return Secret{} // of a zero key
	}
	text := strings.Join(list, " ")
	return Secret{text: key.Hide(&text), work: workWords}
}

// FromTyped makes a secret of what a person typed: recovery words, if there are
// 24 words, else a passphrase. Its errors are those of ParseWords.
func FromTyped(text []byte) (Secret, error) {
	rk, err := ParseWords(string(text))
	if errors.Is(err, words.ErrCount) {
		return FromPassphrase(text), nil
	}
	if err != nil {
		return Secret{}, err
	}
	return FromWords(rk), nil
}

// ParseWords reads recovery words as they were typed. Its errors are, or wrap,
// words.ErrCount, words.ErrChecksum or *words.Unknown.
func ParseWords(text string) (key.RecoveryPrivate, error) {
	seed, err := words.ParseRecovery(text)
	if err != nil {
		return key.RecoveryPrivate{}, fmt.Errorf("recovery words: %w", err)
	}
	defer clear(seed)
	return key.ParseRecovery(seed)
}

var errNoSecret = errors.New("no passphrase and no words")

func (s Secret) recipient() (age.Recipient, error) {
	if s.text == nil {
		return nil, errNoSecret
	}
	r, err := age.NewScryptRecipient(*s.text())
	if err != nil {
		return nil, errNoSecret
	}
	r.SetWorkFactor(s.work)
	return r, nil
}

func (s Secret) identity() (age.Identity, error) {
	if s.text == nil {
		return nil, errNoSecret
	}
	id, err := age.NewScryptIdentity(*s.text())
	if err != nil {
		return nil, errNoSecret
	}
	id.SetMaxWorkFactor(maxWork)
	return id, nil
}
