package room

import (
	"bytes"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// Op is what an entry does: Create, Invite, Uninvite, Link, Unlink, Join, Leave,
// Remove, Ban, Unban, SetRole, SetMemberRights, SetRoleRights, Lock, Describe,
// SetPassword, GuestJoin, GuestRenew, GuestExpire, Devices, Rotate or Merge.
type Op interface {
	Kind() Kind
	// body is the encoding (SPEC "Rooms").
	body() []byte
	// apply does it, if the author may; that he has the rights it takes was checked. The
	// State is dropped after an error.
	apply(*fold) error
}

// Kind is the number of an operation on the wire. Kinds are append-only.
type Kind uint8

const (
	KindCreate          Kind = 1
	KindInvite          Kind = 2
	KindUninvite        Kind = 3
	KindLink            Kind = 4
	KindUnlink          Kind = 5
	KindJoin            Kind = 6
	KindLeave           Kind = 7
	KindRemove          Kind = 8
	KindBan             Kind = 9
	KindUnban           Kind = 10
	KindSetRole         Kind = 11
	KindSetMemberRights Kind = 12
	KindSetRoleRights   Kind = 13
	KindLock            Kind = 14
	KindDescribe        Kind = 15
	KindSetPassword     Kind = 16
	KindGuestJoin       Kind = 17
	KindGuestRenew      Kind = 18
	KindGuestExpire     Kind = 19
	KindDevices         Kind = 20
	KindRotate          Kind = 21
	KindMerge           Kind = 22
)

var kindNames = map[Kind]string{
	KindCreate: "create", KindInvite: "invite", KindUninvite: "uninvite", KindLink: "link", KindUnlink: "unlink",
	KindJoin: "join", KindLeave: "leave", KindRemove: "remove", KindBan: "ban", KindUnban: "unban", KindSetRole: "role",
	KindSetMemberRights: "rights", KindSetRoleRights: "role_rights", KindLock: "lock", KindDescribe: "describe",
	KindSetPassword: "password", KindGuestJoin: "guest_join", KindGuestRenew: "guest_renew",
	KindGuestExpire: "guest_expire", KindDevices: "devices", KindRotate: "rotate", KindMerge: "merge",
}

func (k Kind) String() string { return kindNames[k] }

// parsers read the bodies. Whatever a body holds besides, and whatever it would not
// be written as, parseOp refuses.
var parsers = map[Kind]func(*key.Reader) (Op, error){
	KindCreate:          parseCreate,
	KindInvite:          func(r *key.Reader) (Op, error) { return Invite{takeAccount(r)}, nil },
	KindUninvite:        func(r *key.Reader) (Op, error) { return Uninvite{takeAccount(r)}, nil },
	KindLink:            parseLink,
	KindUnlink:          func(r *key.Reader) (Op, error) { k, err := takeLinkKey(r); return Unlink{k}, err },
	KindJoin:            parseJoin,
	KindLeave:           func(*key.Reader) (Op, error) { return Leave{}, nil },
	KindRemove:          func(r *key.Reader) (Op, error) { return Remove{takeAccount(r)}, nil },
	KindBan:             func(r *key.Reader) (Op, error) { return Ban{takeAccount(r)}, nil },
	KindUnban:           func(r *key.Reader) (Op, error) { return Unban{takeAccount(r)}, nil },
	KindSetRole:         parseSetRole,
	KindSetMemberRights: parseSetMemberRights,
	KindSetRoleRights:   parseSetRoleRights,
	KindLock:            func(r *key.Reader) (Op, error) { return Lock{r.Byte() == 1}, nil },
	KindDescribe:        parseDescribe,
	KindSetPassword:     parseSetPassword,
	KindGuestJoin:       parseGuestJoin,
	KindGuestRenew:      func(r *key.Reader) (Op, error) { return GuestRenew{takeAccount(r), r.Time()}, nil },
	KindGuestExpire:     func(r *key.Reader) (Op, error) { return GuestExpire{takeAccount(r)}, nil },
	KindDevices:         parseDevices,
	KindRotate:          func(*key.Reader) (Op, error) { return Rotate{}, nil },
	KindMerge:           parseMerge,
}

// takes are the rights without which nobody does an operation. What it takes besides,
// and when, apply knows.
var takes = map[Kind]Rights{
	KindInvite:          Admit,
	KindUninvite:        Admit,
	KindLink:            Admit,
	KindUnlink:          Admit,
	KindRemove:          Kick,
	KindBan:             Kick,
	KindUnban:           Kick,
	KindSetMemberRights: SetRights,
	KindSetRoleRights:   SetRights,
	KindLock:            Kick,
	KindDescribe:        Rename,
	KindSetPassword:     SetRights,
	KindGuestJoin:       Admit,
	KindGuestRenew:      Admit,
	KindGuestExpire:     Admit,
	KindRotate:          Kick,
}

func parseOp(kind Kind, body []byte) (Op, error) {
	parse, ok := parsers[kind]
	if !ok {
		return nil, fmt.Errorf("operation %d: %w", kind, ErrUnsupported)
	}
	r := key.NewReader(body)
	op, err := parse(r)
	if err != nil {
		return nil, fmt.Errorf("%w: operation %d: %v", ErrMalformed, kind, err)
	}
	if err := r.End(); err != nil || !bytes.Equal(op.body(), body) {
		return nil, fmt.Errorf("%w: operation %d", ErrMalformed, kind)
	}
	return op, nil
}

// Precedence orders what waits to be appended to one log: a removal (0) goes before
// a change of rights (1), and that before everything else (2), so that nobody holds
// up his removal by writing.
func Precedence(op Op) int {
	switch op.(type) {
	case Remove, Ban:
		return 0
	case SetRole, SetMemberRights, SetRoleRights:
		return 1
	}
	return 2
}

func takeAccount(r *key.Reader) (id protocol.AccountID) {
	copy(id[:], r.Take(32))
	return id
}

func takeLinkKey(r *key.Reader) (key.LinkPublic, error) { return key.ParseLinkPublic(r.Take(32)) }
