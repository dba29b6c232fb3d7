package api

import (
	"context"
	"errors"
	"io"
	"time"
)

// BackupRequest says what goes into a backup, and what opens it: exactly one of
// Passphrase and Words.
type BackupRequest struct {
	Passphrase string `json:"passphrase,omitempty"`
	Words      string `json:"words,omitempty"` // the 24 recovery words of this account
	History    bool   `json:"history"`         // all conversations too
}

// Recovery says how well prepared this account is for a lost device.
type Recovery struct {
	Confirmed  bool       `json:"confirmed"`             // the recovery words are not here: the user has shown to have them, or this device was added to the account
	LastBackup *time.Time `json:"last_backup,omitempty"` // made on this device
}

// RecoveryWords are the words of the recovery key, of which this device keeps
// nothing once they are confirmed.
type RecoveryWords struct {
	Words []string `json:"words"`
}

// ConfirmRequest holds all words as they were typed.
type ConfirmRequest struct {
	Words string `json:"words"`
}

// Recovery tells whether the recovery words were confirmed, and when the last
// backup was made.
func (c *Client) Recovery(ctx context.Context) (r Recovery, err error) {
	return r, c.call(ctx, "GET", "/v1/recovery", nil, &r)
}

// RecoveryWords returns the recovery words; ErrConflict once they are confirmed.
func (c *Client) RecoveryWords(ctx context.Context) (w RecoveryWords, err error) {
	return w, c.call(ctx, "POST", "/v1/recovery/words", nil, &w)
}

// ConfirmRecovery says that the user has the words. All devices then forget the
// recovery key.
func (c *Client) ConfirmRecovery(ctx context.Context, r ConfirmRequest) error {
	return c.call(ctx, "POST", "/v1/recovery/confirm", r, nil)
}

// Backup writes a backup to w. It takes as long as that takes. After an error,
// what was written is worth nothing.
func (c *Client) Backup(ctx context.Context, r BackupRequest, w io.Writer) error {
	body, err := c.do(ctx, "POST", "/v1/backup", r)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		if err := explain(err); !errors.Is(err, ErrNotRunning) {
			return err
		}
		return &Error{Code: ErrInternal, Text: "the node broke the backup off", Hint: "its log says why"}
	}
	return nil
}

// BackupReport is what a trial of a backup found in it.
type BackupReport struct {
	Name          string    `json:"name"`
	Account       string    `json:"account"`
	Created       time.Time `json:"created"`
	Devices       []string  `json:"devices"`      // names of the account's devices then
	RecoveryKey   bool      `json:"recovery_key"` // in it, since the words were not confirmed
	Contacts      int       `json:"contacts"`
	Verified      int       `json:"verified"` // of the contacts
	Conversations int       `json:"conversations"`
	Messages      int       `json:"messages"`
}
