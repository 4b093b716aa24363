package changeset_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// sound checks that edges would accept a change that a reader accepted.
func sound(t *testing.T, c journal.Change) {
	t.Helper()
	line, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if len(line) > journal.MaxLine {
		return // control refuses a change of this length before it publishes it
	}
	if _, err := journal.ParseChange(line); err != nil {
		t.Errorf("ParseChange refused the line %s: %v", line, err)
	}
	if wire, err := format.Name(c.Name); err != nil || blocklist.NameText(wire) != c.Name {
		t.Errorf("%q is not canonical: %v", c.Name, err)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{
		`{"name":"a.example"}`, `{"name":"b\u00fccher.example","do":"allow","expiry":"2099-01-01T00:00:00Z"}`, `{"name":"x.example","countries":["FR"]}`, `{}`, `{"name":"a.example"} {}`, `[`,
		`{"name":"*.example.com","scope":"below","reason":"\u0000"}`, `{"name":"a.example","start":"0000-01-01T00:00:00Z"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := changeset.ParseLine(text, format.Grammar{}); err == nil {
			sound(t, c)
		}
	})
}

func FuzzReadTable(f *testing.F) {
	f.Add([]byte("name,do,expiry,countries\na.example,block,2099-01-01T00:00:00Z,FR DE\n,,,\n"))
	f.Add([]byte("\ufeffname\n\"a.example\"\n"))
	f.Add([]byte("name,reason\na.example,\"x\ny\"\n\"\n"))
	f.Add([]byte("name\n\n\nx"))
	f.Fuzz(func(t *testing.T, table []byte) {
		last := 0
		_ = changeset.ReadTable(bytes.NewReader(table), format.Grammar{}, func(line int, c journal.Change, bad error) error {
			if line <= last {
				t.Errorf("line %d was reported after line %d", line, last)
			}
			if last = line; bad == nil {
				sound(t, c)
			}
			return nil
		})
	})
}

func FuzzReadSigned(f *testing.F) {
	key, err := signing.NewKey("author")
	if err != nil {
		f.Fatal(err)
	}
	guards, err := guard.New(guard.Config{})
	if err != nil {
		f.Fatal(err)
	}
	var empty bytes.Buffer
	if err := blocklist.Compile(&empty, blocklist.Info{Version: 1}); err != nil {
		f.Fatal(err)
	}
	snapshot, err := blocklist.Open(empty.Bytes())
	if err != nil {
		f.Fatal(err)
	}
	view := blocklist.NewView(snapshot, nil)
	payload, err := journal.Encode(&journal.ChangeSet{ID: "x", Time: time.Now().Unix()}, []journal.Change{{Do: journal.Block, Name: "a.example"}, {Do: journal.Withdraw, Name: "co.uk"}})
	if err != nil {
		f.Fatal(err)
	}
	good := signing.Seal(signing.KindChanges, payload, key)
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte("rempart/1 changes\n\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, body []byte) {
		u, err := changeset.JudgeOf(dir, guards, view).ReadSigned(bytes.NewReader(body))
		if err != nil {
			u.Close()
			return
		}
		defer u.Close()
		accepted, refused, payload, err := u.Read()
		if err != nil {
			return
		}
		if !bytes.HasSuffix(body, payload) {
			t.Error("the stored bytes are not the signed bytes at the end of the body")
		}
		if _, changes, err := journal.Decode(payload); err != nil || len(changes) != accepted+refused {
			t.Errorf("%d changes, but %d accepted and %d refused: %v", len(changes), accepted, refused, err)
		}
	})
}
