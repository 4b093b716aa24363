package changeset

import (
	"time"

	"rempart/blocklist"
	"rempart/blocklist/guard"
)

// ParseLine exports parseLine to the fuzz tests.
var ParseLine = parseLine

// JudgeOf returns a judge without a Lifecycle.
func JudgeOf(dir string, guards *guard.Guards, view *blocklist.View) *Judge {
	return &Judge{dir: dir, view: view, guards: guards, now: time.Now().Unix(), most: 1000}
}

// Read returns the numbers of accepted and refused changes of an upload, and its signed bytes.
func (u *Upload) Read() (accepted, refused int, payload []byte, err error) {
	if _, err := u.sum(); err != nil {
		return 0, 0, nil, err
	}
	payload, err = u.payload()
	return u.accepted, u.refusals, payload, err
}
