package pushapi

import (
	"io"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/guard"
)

// AllowNoMore keeps the limits of unknown callers from allowing more calls as time passes, beyond the burst.
func (a *API) AllowNoMore() {
	a.limits.strangers.SetLimit(0)
	a.limits.orders.SetLimit(0)
}

// AheadFor is how long a node may be ahead.
const AheadFor = aheadFor

// ParseLine, ReadCSV and ReadSigned are for the fuzz tests.
var (
	ParseLine = parseLine
	ReadCSV   = readCSV
)

// ReadSigned reads a sealed change set, of which so many changes count.
func ReadSigned(r io.Reader, dir string, guards *guard.Guards, view *blocklist.View) (accepted, refused int, payload []byte, err error) {
	j := &judging{view: view, guards: guards, now: time.Now().Unix(), most: 1000}
	u, err := j.readSigned(r, dir)
	defer u.close()
	if err != nil {
		return 0, 0, nil, err
	}
	if _, err := u.sum(); err != nil {
		return 0, 0, nil, err
	}
	payload, err = u.payload()
	return u.accepted, u.refusals, payload, err
}
