package node

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/parley-chat/parley/node/api"
)

// Who asks while the node goes down hears that, and not of an error of the node.
func TestStoppingIsToldAsSuch(t *testing.T) {
	err := answer(fmt.Errorf("read the newest event: %w", context.Canceled))
	if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.ErrStopping {
		t.Errorf("answered with %v", err)
	}
}
