package chain_test

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/room/message"
)

// Alice writes, Bob reads. What comes from the room's log is made up here.
func Example() {
	now := time.Unix(1_800_000_000, 0)
	alice, signing := protocol.DeviceID{1}, key.NewDevice()
	view := message.View{Room: [32]byte{2}, Epoch: 3, Seq: 5, Head: [32]byte{4}}

	// Alice: a new chain, because the room has a new epoch; then the message.
	var own chain.Sender
	var toAll chain.Distribution
	var err error
	if own.Ended(now, view) {
		if own, toAll, err = own.Start(now, view, alice); err != nil {
			fmt.Println(err)
			return
		}
	}
	own, sealed, err := own.Seal(now, signing, view, []byte("hello, room"))
	if err != nil {
		fmt.Println(err)
		return
	}

	// Bob gets the chain over his session with Alice's device ...
	check := message.Checker{Room: view.Room, Epochs: message.EpochsAt(3),
		Sender: func(device protocol.DeviceID, epoch uint64) (key.DevicePublic, bool) {
			return signing.Public(), device == alice && epoch == 3
		},
		Demoted: func(protocol.DeviceID, uint64) bool { return false },
	}
	received, err := chain.ParseDistribution(alice, toAll.Marshal())
	if err != nil || check.May(alice, received.View.Epoch) != nil {
		fmt.Println("not a chain of Alice's:", err)
		return
	}
	bob, err := chain.NewReceiver(view.Room, alice).Accept(now, received)
	if err != nil {
		fmt.Println(err)
		return
	}

	// ... and the message from the room's topic.
	verified, err := check.Live(now, sealed)
	if err != nil {
		fmt.Println(err)
		return
	}
	bob, text, err := bob.Open(now, verified)
	fmt.Printf("%s, %v; next come number %d and %d\n", text, err, own.Next(), bob.Next())
	// Output: hello, room, <nil>; next come number 2 and 2
}
