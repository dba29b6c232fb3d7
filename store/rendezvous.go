package store

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// Rendezvous is everything a rendezvous remembers, one small interface per
// concern. Methods are atomic and durable when they return. A refusal is a
// *protocol.Error; any other error means the store could not do it (ErrFull,
// ErrFailed and so on) and the caller answers "unavailable".
//
// The store checks rules, not signatures: names, chains, certificates and
// records arrive already verified, and are kept as the exact bytes received.
// Times are kept to the second.
type Rendezvous interface {
	Accounts
	Log
	Invites
	StoreIDs
	Prekeys
	Mailbox
	Rooms
	Guests
	Contacts
	SigningKeys
	Audit
	Relays
	Blobs

	// Sweep drops what has expired at now: mail, prekeys, answers kept for
	// retried claims, invites, messages of rooms, guests, blobs, and everything stored for
	// revoked devices and for accounts that have no other. Call it every few minutes; it
	// works in small transactions. It returns how many rows it dropped.
	Sweep(ctx context.Context, now time.Time) (dropped int, err error)

	// Totals counts what is stored. It reads a row per account and per device:
	// for the operator, not for calls.
	Totals(ctx context.Context) (Totals, error)
}

// Totals are the sizes of a rendezvous.
type Totals struct {
	Accounts int
	Mail     Usage // waiting in all mailboxes
	Blobs    Usage // also those that are not whole yet
}

// Accounts binds names to accounts and accounts to devices.
//
// Rules: a name is bound once and never again to another account; an account
// has one name; a chain only grows; a device id or a peer id is never bound
// twice; a revoked device stays revoked.
type Accounts interface {
	// Register binds a name to a new account with its chain and first devices,
	// writes its first entry of the log, and uses up the invite, in one
	// transaction. Repeating it for the same
	// name and account is success and changes nothing (a longer chain goes
	// through SetChain). Refusals: NameTaken, AccountExists (registered under
	// another name), DeviceExists, InviteInvalid, InviteExpired, InviteUsed.
	Register(ctx context.Context, p RegisterParams) error

	// Account and AccountByName return an account, or refuse with UnknownAccount.
	Account(ctx context.Context, id protocol.AccountID) (Account, error)
	AccountByName(ctx context.Context, name string) (Account, error)

	// SetChain replaces the chain by a longer one that begins with the bytes of
	// the stored one, writes its entry of the log, adds the devices that are
	// new, renews the certificates of those that are known, and revokes, in one
	// transaction. The stored chain
	// again is success and changes nothing. Refusals: UnknownAccount;
	// ChainConflict for a chain that does not begin with the stored one;
	// DeviceExists; Revoked for a device that comes back.
	SetChain(ctx context.Context, p ChainParams) error

	// Device and DeviceByPeer return a device, also a revoked one (see
	// Device.Revoked), or refuse with UnknownDevice.
	Device(ctx context.Context, id protocol.DeviceID) (Device, error)
	DeviceByPeer(ctx context.Context, peerID []byte) (Device, error)

	// Devices returns the account's devices, also revoked ones, by id. An
	// unknown account has none.
	Devices(ctx context.Context, account protocol.AccountID) ([]Device, error)

	// Heads returns, sorted by account, the heads of the chains of owner and of
	// everybody on owner's list (see Contacts) who is registered. It reads no
	// chains, so it may be asked at every start of a link.
	Heads(ctx context.Context, owner protocol.AccountID) ([]Head, error)
}

// Head says how far the chain of an account goes.
type Head struct {
	Account protocol.AccountID
	Hash    [16]byte // the first bytes of Account.ChainHead
}

// Account is a registered account.
type Account struct {
	ID        protocol.AccountID
	Name      string // unique and canonical; empty: of a guest, see Guests
	Chain     []byte // encoded statement chain
	ChainSeq  uint64
	ChainHead [32]byte
	Entry     uint64 // of the log, the newest: that of this chain
	Created   time.Time
	InvitedBy protocol.AccountID // zero: the operator, or open registration
}

// IsGuest tells that the account was made to visit rooms.
func (a Account) IsGuest() bool { return a.Name == "" }

// Device is one certified device.
type Device struct {
	ID      protocol.DeviceID
	Account protocol.AccountID
	PeerID  []byte // the libp2p identity, at most 64 bytes
	Cert    []byte // encoded certificate, the newest
	Created time.Time
	Revoked bool
	Guest   bool // of an account that was made to visit rooms
}

// RegisterParams are what a registration carries.
type RegisterParams struct {
	Name      string   // canonical; the caller has refused bad names
	Label     [32]byte // what stands for the name in the log
	Account   protocol.AccountID
	Chain     []byte
	ChainSeq  uint64
	ChainHead [32]byte
	Devices   []NewDevice // the devices certified in the chain
	Invite    *[32]byte   // InviteHash of the token; nil when registration is open
	Now       time.Time
}

// ChainParams are what a longer chain carries.
type ChainParams struct {
	Account   protocol.AccountID
	Chain     []byte
	ChainSeq  uint64
	ChainHead [32]byte
	Devices   []NewDevice         // all valid devices of the chain; known ones are renewed
	Revoked   []protocol.DeviceID // all revoked devices of the chain; unknown ones are blocked for ever
	Now       time.Time

	// For the journal, as account.Chain has them: the numbers of the newest
	// statement by the recovery key, and of the one that replaced the account key
	// (0: none), and whether the account ended.
	LastRecovery, LastKey uint64
	Closed                bool
}

// NewDevice is a device as a chain certifies it.
type NewDevice struct {
	ID     protocol.DeviceID
	PeerID []byte
	Cert   []byte
}

// Invites are the right to register. Only the hash of a token is stored.
//
// Rule: a use is counted in the transaction that registers the account.
type Invites interface {
	// CreateInvite stores an invite; Used is ignored. Repeating it is success;
	// the same hash with other terms is refused with BadRequest.
	CreateInvite(ctx context.Context, inv Invite) error

	// Invites lists those made by one account (zero: by the operator), or all
	// when by is nil, in order of hash.
	Invites(ctx context.Context, by *protocol.AccountID) ([]Invite, error)

	// RevokeInvite removes an invite; InviteInvalid if there is none.
	RevokeInvite(ctx context.Context, hash [32]byte, now time.Time) error
}

// Invite admits Uses accounts until Expires.
type Invite struct {
	Hash    [32]byte // InviteHash of the token
	By      protocol.AccountID
	Uses    uint32
	Used    uint32
	Created time.Time
	Expires time.Time
}

// InviteHash names the invite of a token. The token has at least 128 bits of
// randomness, so a plain SHA-256 hides it.
func InviteHash(token []byte) [32]byte { return sha256.Sum256(token) }

// StoreIDs notices a device whose store was copied or set back.
//
// Rule: one store id per device, for ever; each start of it has a higher
// counter than the one before, and a random number of its own. Two copies of a
// store that count alike differ in that number.
type StoreIDs interface {
	// CheckStore remembers the start of a device's store. It refuses with
	// DeviceCloned another store id; with StoreRolledBack a lower counter, and
	// the same counter with another start. The same counter and start is a
	// retry. A higher counter is always taken, by how much ever it is higher: it
	// may be this memory that was set back.
	CheckStore(ctx context.Context, device protocol.DeviceID, at StoreStart) error
}

// StoreStart is what a device says about its store when it connects.
type StoreStart struct {
	StoreID [16]byte
	Counter uint64
	Start   [16]byte // random; new whenever Counter is
}

// Prekeys hands out prekeys.
//
// Rules: an id is bound to one key for as long as that key lives; a one-time
// prekey is handed out once, oldest upload first, even if it is uploaded again;
// a retried claim gets the same answer.
type Prekeys interface {
	// PutSigned publishes a signed prekey. The two newest by Created are kept;
	// an older one is success without effect. Refusals: UnknownDevice, Revoked,
	// KeyConflict (same id, other key).
	PutSigned(ctx context.Context, device protocol.DeviceID, key SignedPrekey, now time.Time) error

	// PutOneTime adds one-time prekeys in the order given, until the device has
	// limit of them waiting. Each key is judged by itself: see UploadResult.
	// Refusals of the whole call: UnknownDevice, Revoked.
	PutOneTime(ctx context.Context, device protocol.DeviceID, keys []OneTimePrekey, limit int, now time.Time) (UploadResult, error)

	// DropOneTime takes back all one-time prekeys that wait to be claimed: none
	// of them is ever handed out, also if it is uploaded again. Refusals:
	// UnknownDevice, Revoked.
	DropOneTime(ctx context.Context, device protocol.DeviceID) error

	// CountPrekeys tells the published stock. An unknown device has none.
	CountPrekeys(ctx context.Context, device protocol.DeviceID, now time.Time) (PrekeyCount, error)

	// SignedPrekey returns the newest signed prekey that has not expired.
	// Refusals: UnknownDevice, Revoked, Unavailable (none published).
	SignedPrekey(ctx context.Context, device protocol.DeviceID, now time.Time) (SignedPrekey, error)

	// Claim is SignedPrekey plus one one-time prekey, if any is left, which is
	// never handed out to another claim. For ClaimMemory the same claimer,
	// device and nonce get the same one-time prekey (or the same absence of
	// one) until it expires, and the same signed prekey as long as it is one of
	// the two kept.
	Claim(ctx context.Context, p ClaimParams) (Claimed, error)
}

// ClaimMemory is how long the answer to a claim is kept for a retry.
const ClaimMemory = 24 * time.Hour

// SignedPrekey is a signed prekey as published.
type SignedPrekey struct {
	ID      protocol.PrekeyID
	Key     [32]byte // SHA-256 of the record without its signature: same id and Key is the same prekey
	Record  []byte   // encoded, with signature
	RSA     []byte   // the 512-byte modulus that the record names
	Created time.Time
	Expires time.Time
}

// OneTimePrekey is a one-time prekey as published.
type OneTimePrekey struct {
	ID      protocol.PrekeyID
	Key     [32]byte // as in SignedPrekey
	Record  []byte
	Expires time.Time
}

// UploadResult says what became of each key of an upload. Keys in none of the
// lists are published, now or from before; a key that was claimed already
// counts as such and is not published again.
type UploadResult struct {
	Conflicts []protocol.PrekeyID // the id is bound to another key; answer KeyConflict
	Full      []protocol.PrekeyID // above the limit, or too many ids are bound; answer StockFull
	Expired   []protocol.PrekeyID // not stored
	Stored    int                 // newly stored by this call
	Count     PrekeyCount         // after this call
}

// PrekeyCount is a device's published stock.
type PrekeyCount struct {
	OneTime int      // waiting to be claimed
	Signed  int      // 0 to 2, not expired
	Digest  [32]byte // SHA-256 over the ids of what waits, in order of id
}

// ClaimParams are what a claim carries.
type ClaimParams struct {
	Claimer protocol.AccountID
	Device  protocol.DeviceID
	Nonce   [16]byte // random, the same in every retry of one claim
	Now     time.Time
}

// Claimed answers a claim.
type Claimed struct {
	Signed  SignedPrekey
	OneTime []byte // a record; nil when none is left
	Left    int    // one-time prekeys still waiting
	Retry   bool   // this claim had been answered before
}

// Mailbox keeps envelopes until their device acknowledges them.
//
// Rules: mail of one device has one order, that of arrival; the same envelope
// waits only once; only an explicit acknowledgement, expiry or revocation
// removes mail; usage counters change in the same transaction as the mail.
type Mailbox interface {
	// Put stores mail in the order given and answers each item by itself, in
	// the same order: OK, UnknownDevice, Revoked, MailboxFull, SenderFull, or
	// RequestPending. An envelope that already waits is OK and changes nothing.
	// Acknowledged ids are not remembered: a duplicate that comes later is
	// stored again, and the receiving device drops it.
	//
	// Of the contact requests of one account, one may wait at each device;
	// until it is acknowledged or expired, others get RequestPending.
	Put(ctx context.Context, mail []Mail, q Quotas) ([]protocol.Code, error)

	// Fetch returns mail with Seq > after in order of arrival, at most max
	// items and about maxBytes of envelopes (at least one item, if any waits).
	Fetch(ctx context.Context, device protocol.DeviceID, after uint64, max, maxBytes int, now time.Time) ([]Stored, error)

	// Ack removes the named mail and frees its quota; unknown ids are ignored.
	// It returns how many it removed.
	Ack(ctx context.Context, device protocol.DeviceID, ids []protocol.EnvelopeID) (int, error)

	// MailboxUsage and SenderUsage tell what counts against the quotas.
	MailboxUsage(ctx context.Context, device protocol.DeviceID) (Usage, error)
	SenderUsage(ctx context.Context, account protocol.AccountID) (Usage, error)
}

// MailKind tells contact requests from all other mail. Append-only.
type MailKind uint8

const (
	Message MailKind = 1
	Request MailKind = 2 // from an account the recipient has not accepted
	OfRoom  MailKind = 3 // concerns a room that both are in
)

// Mail is an envelope on its way to a device.
type Mail struct {
	To       protocol.DeviceID
	From     protocol.AccountID // whose quota it uses
	ID       protocol.EnvelopeID
	Kind     MailKind
	Envelope []byte // at most protocol.MaxEnvelope
	Expires  time.Time
}

// Stored is mail in a mailbox. Seq grows with arrival; it is a cursor of this
// mailbox and means nothing elsewhere.
type Stored struct {
	Seq uint64
	Mail
}

// Quotas bound what may wait. Zero means no limit.
type Quotas struct {
	RecipientCount, RecipientBytes int // per device
	SenderCount, SenderBytes       int // per account, over all mailboxes; not of kind OfRoom

	// The same of kind OfRoom alone, so that what goes to a thousand members leaves room
	// for the rest, and none of them fills a mailbox that contacts need.
	RoomRecipientCount, RoomRecipientBytes int // also count as any mail of the device
	RoomSenderCount, RoomSenderBytes       int
}

// Usage is what waits: envelopes and their bytes.
type Usage struct{ Count, Bytes int }
