package drive

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/parley-chat/parley/node/api"
)

// Link makes another directory, of other, one more device of p's account, as
// two commands on two machines do.
func (p Person) Link(ctx context.Context, other Person, flags ...string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	add := command(ctx, p.In, p.Bin, "device", "add", "--yes", "--json")
	add.Env = append(os.Environ(), "PARLEY_DIR="+p.Dir)
	var stderr strings.Builder
	add.Stderr = &stderr
	out, err := add.StdoutPipe()
	if err != nil {
		return err
	}
	if err := add.Start(); err != nil {
		return fmt.Errorf("parley device add: %w", err)
	}
	defer func() {
		if err != nil {
			cancel() // nobody waits for it any more
		}
		if waited := add.Wait(); err == nil && waited != nil {
			err = fmt.Errorf("parley device add: %w: %s", waited, stderr.String())
		}
	}()
	lines := bufio.NewScanner(out)
	link := ""
	for link == "" && lines.Scan() {
		var step api.AddStep
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			return fmt.Errorf("read what parley device add printed: %w: %s", err, lines.Text())
		}
		link = step.Link
	}
	if link == "" {
		return errors.New("parley device add printed no link: " + stderr.String())
	}
	if _, err := other.Run(ctx, append([]string{"link", link, "--key-file", other.Key, "--device", other.Name}, flags...)...); err != nil {
		return err
	}
	for lines.Scan() { // it ends by itself
	}
	return lines.Err()
}

// Devices returns what parley device list says.
func (p Person) Devices(ctx context.Context) ([]api.Device, error) {
	var answer struct{ Devices []api.Device }
	err := p.JSON(ctx, &answer, "device", "list")
	return answer.Devices, err
}
