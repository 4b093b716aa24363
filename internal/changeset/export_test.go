package changeset

import (
	"time"

	"rempart/blocklist"
	"rempart/blocklist/guard"
)

// ParseLine is for the fuzz tests.
var ParseLine = parseLine

// JudgeOf returns a judge without a Lifecycle.
func JudgeOf(dir string, guards *guard.Guards, view *blocklist.View) *Judge {
	return &Judge{dir: dir, view: view, guards: guards, now: time.Now().Unix(), most: 1000}
}

// Read returns how many changes of an upload are applied and refused, and its signed bytes.
func (u *Upload) Read() (accepted, refused int, payload []byte, err error) {
	if _, err := u.sum(); err != nil {
		return 0, 0, nil, err
	}
	payload, err = u.payload()
	return u.accepted, u.refusals, payload, err
}
