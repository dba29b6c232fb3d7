package node

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/store"
)

// Alarms returns what the rendezvous was caught at, the oldest first.
func (n *Node) Alarms(ctx context.Context) ([]api.Alarm, error) {
	list, err := read(ctx, n.kv, n.alarms)
	return list, answer(err)
}

func (n *Node) alarms(tx store.Tx) ([]api.Alarm, error) {
	newest, err := n.eng.LogAlarms(tx)
	list := make([]api.Alarm, len(newest))
	for i, a := range newest {
		number := len(list) - i
		list[number-1] = api.Alarm{
			N: number, At: a.At, Text: a.Problem, Ended: unlessZero(a.Ended),
			Held: string(a.Held), Shown: string(a.Shown), Evidence: string(a.Evidence),
		}
	}
	return list, err
}

var errOtherAlarm = errors.New("there is another alarm by now")

// AcceptLog ends the alarm that stands, if it is the one that the user has seen: he
// goes on with the log that the rendezvous shows now.
func (n *Node) AcceptLog(ctx context.Context, r api.AcceptRequest) (ended api.Alarm, err error) {
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		h, err := n.eng.AcceptLog(tx, n.now())
		if err != nil {
			return h, err
		}
		list, err := n.alarms(tx)
		if err != nil {
			return h, err
		}
		if ended = list[len(list)-1]; ended.N != r.N {
			return h, errOtherAlarm
		}
		return h, nil
	})
	return ended, answer(err)
}
