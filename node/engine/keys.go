package engine

import (
	"encoding/binary"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Every key of the engine. Keys are not sealed: they hold ids and numbers,
// never a name or a text. A name is found by a hash under a secret of this
// store.
const (
	tableFormat     byte = 'F' // storeFormat
	tableIdentity   byte = 'I' // the one identity row, and the device that is to take its place
	tableAccountKey byte = 'A' // public key -> accountKeyRow
	tableRSA        byte = 'R' // hash of the public key -> rsaRow

	tableCounts  byte = 'C' // countsRow
	tablePrekeys byte = 'P' // prekeysRow
	tableStarts  byte = 'B' // startRow
	tableClock   byte = 'T' // clockRow

	tablePeer   byte = 'a' // account -> peerRow
	tableChain  byte = 'k' // account -> its statement chain
	tableName   byte = 'n' // keyed hash of a name -> account
	tableDevice byte = 'd' // device -> deviceRow
	tableCert   byte = 'c' // device -> its certificate

	tableSession byte = 's' // session -> session.State
	tableGone    byte = 'y' // session that was dropped -> device
	tableReplay  byte = 'x' // signed prekey, ephemeral key -> opened before
	tableSeen    byte = 'u' // day, envelope -> taken in before

	tableHistory byte = 'h' // account, position -> historyRow
	tableText    byte = 'b' // account, position -> the text, if it is long or goes with a file, and what describes that
	tableIndex   byte = 'm' // message, author device (zero: one of ours) -> indexRow
	tableHeld    byte = 'l' // device, seq -> historyRow that came early
	tableHole    byte = 'g' // device, seq -> position of its hole

	tableWaiting  byte = 'w' // device, number -> itemRow
	tableOut      byte = 'o' // device, number of the envelope -> itemRow
	tableKept     byte = 'p' // device, number -> itemRow
	tableEnvelope byte = 'e' // envelope -> its number in out, then the number in kept
	tableReceipt  byte = 'r' // device -> receiptRow
	tableReason   byte = 'z' // device -> reasonRow
	tablePassed   byte = 'j' // own device -> receiptRow: states and reads it is to be told
	tableEarly    byte = 'i' // message -> earlyRow: a state that came before it
	tableShare    byte = 'f' // own device -> shareRow
	tableCompare  byte = 'E' // account -> comparisonRow

	tableLog      byte = 'L' // peer id of the rendezvous -> the last head of its log
	tableLogAlarm byte = 'K' // peer id of the rendezvous -> logAlarmRow
	tableHeard    byte = 'D' // account -> heardRow
	tableLogPast  byte = 'W' // number -> logAlarmRow that was accepted or replaced
	tableMirror   byte = 'M' // mirrorRow
	tableLogHash  byte = 'H' // generation of the mirror, number -> hashes of the log's tree
	tableLogLeaf  byte = 'Q' // the same -> entries
	tableLogLabel byte = 'V' // generation of the mirror, label -> newestRow

	tableRoom         byte = '0' // room -> roomRow
	tableRoomLog      byte = '1' // room, number -> entry of its log
	tableRoomEntry    byte = '2' // room, number -> entry of ours that is to be appended
	tableRoomKey      byte = '3' // room, name of the key -> room.StateKey
	tableRoomChain    byte = '4' // room, chain -> roomChainRow
	tableRoomSender   byte = '5' // room -> chain.Sender
	tableRoomReceiver byte = '6' // room, device -> roomReceiverRow
	tableRoomOut      byte = '7' // room, number -> roomOutRow
	tableRoomWait     byte = '8' // room, device, number -> message that waits for its chain
	tableRoomHeld     byte = '9' // room, device, number -> historyRow that came early
	tableRoomLent     byte = '@' // room, device, number -> a sealed message, for members who want it
	tableRoomLentAge  byte = '=' // room, number -> lentAgeRow, the oldest first; room -> lentRow

	tableGuest    byte = 'N' // guestRow of the guest whose store this is
	tableRoomNote byte = 'U' // room, what it is about -> see keyRoomCame, keyRoomTries
	tableMark     byte = 'X' // conversation, kind of mark, position, account of a reaction -> markRow
	tableAction   byte = 'Y' // conversation, message, its author, kind of action, account -> earlyActionRow
	tableSetting  byte = 'Z' // conversation -> settingsRow
	tableRoomLink byte = '+' // room, public half -> roomLinkRow

	tableRoomBranch byte = '-' // room, number -> entry of another log of it

	tableFile     byte = '*' // conversation, position -> fileRow
	tableFileID   byte = '#' // file, conversation, position -> nothing
	tableOpenFile byte = '?' // conversation, position -> nothing: of files that something is to be done with
	tableFileAuto byte = '$' // account -> fileAutoRow
	tableFileEnd  byte = '!' // file, mark of a folder, conversation, position -> fileEndRow

	tableTimer   byte = 't' // time in milliseconds, kind of timer, id -> nothing
	tableEvent   byte = 'v' // number -> eventRow
	tableSigned  byte = 'S' // prekey -> pairRow
	tableOneTime byte = 'O' // prekey -> pairRow
	tableStock   byte = 'q' // number -> the one-time prekey and whether it is published
	tableGiven   byte = 'G' // device -> lentRow: the prekey it was last given
	tableLedger  byte = 'J' // number -> ledgerRow; without a number the newest
)

// Ephemeral tells whether a row holds private keys or the state of a session,
// by its table: what such a row held before must stay unreadable once it was
// changed or deleted. Whoever keeps the store seals these rows under keys that
// are replaced often.
func Ephemeral(key []byte) bool {
	switch key[0] {
	case tableIdentity, tableAccountKey, tableRSA, tableSession, tableSigned, tableOneTime,
		tableRoomKey, tableRoomChain, tableRoomSender, tableRoomReceiver, tableGuest, tableRoomLink:
		return true
	}
	return false
}

func keyPeer(a protocol.AccountID) []byte  { return store.Key(tablePeer, a[:]) }
func keyChain(a protocol.AccountID) []byte { return store.Key(tableChain, a[:]) }
func keyDevice(d protocol.DeviceID) []byte { return store.Key(tableDevice, d[:]) }
func keyCert(d protocol.DeviceID) []byte   { return store.Key(tableCert, d[:]) }
func keyReason(d protocol.DeviceID) []byte { return store.Key(tableReason, d[:]) }

func keySession(s protocol.SessionID) []byte { return store.Key(tableSession, s[:]) }

func keyGone(s protocol.SessionID) []byte { return store.Key(tableGone, s[:]) }

func keyReplay(signed protocol.PrekeyID, ephemeral [32]byte) []byte {
	return store.Key(tableReplay, signed[:], ephemeral[:])
}

func keyHistory(a protocol.AccountID, position uint64) []byte {
	return store.Key(tableHistory, a[:], position)
}

func keyText(a protocol.AccountID, position uint64) []byte {
	return store.Key(tableText, a[:], position)
}

func keyIndex(m protocol.MsgID, author protocol.DeviceID) []byte {
	return store.Key(tableIndex, m[:], author[:])
}

// keyMine finds an own message, or an own content that is no message, by its
// id, whichever device of ours it went out from.
func keyMine(m protocol.MsgID) []byte { return keyIndex(m, protocol.DeviceID{}) }

// keyItem is for waiting, out, kept, held and hole: something of a device, in
// order.
func keyItem(table byte, d protocol.DeviceID, number uint64) []byte {
	return store.Key(table, d[:], number)
}

func keyEnvelope(id protocol.EnvelopeID) []byte { return store.Key(tableEnvelope, id[:]) }
func keyEvent(n uint64) []byte                  { return store.Key(tableEvent, n) }
func keySigned(id protocol.PrekeyID) []byte     { return store.Key(tableSigned, id[:]) }
func keyOneTime(id protocol.PrekeyID) []byte    { return store.Key(tableOneTime, id[:]) }
func keyStock(n uint64) []byte                  { return store.Key(tableStock, n) }
func keyGiven(d protocol.DeviceID) []byte       { return store.Key(tableGiven, d[:]) }
func keyLedger(n uint64) []byte                 { return store.Key(tableLedger, n) }

func keyTimer(at time.Time, kind timer, id []byte) []byte {
	return store.Key(tableTimer, uint64(millis(at)), []byte{byte(kind)}, id)
}

// keyNumber reads the number at the end of a key.
func keyNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// keyDeviceOf reads the device of a keyItem.
func keyDeviceOf(key []byte) (d protocol.DeviceID) {
	copy(d[:], store.ReadKey(key).Bytes(len(d)))
	return d
}
