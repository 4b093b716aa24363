package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"

	"rempart/internal/config"
)

// NewLog returns the log of a server, in the format of REMPART_LOG. Text and JSON are written to out. The error says that there is no journal of systemd.
func NewLog(format config.LogFormat, out io.Writer) (*slog.Logger, error) {
	switch format {
	case config.LogJSON:
		return slog.New(slog.NewJSONHandler(out, nil)), nil
	case config.LogJournal:
		if !journal.Enabled() {
			return nil, config.Bad("LOG", string(format), "the journal of systemd does not run here: write \"text\" or \"json\"")
		}
		return slog.New(newJournalHandler(newBoundedJournal(journal.Send).Send, out)), nil
	}
	return slog.New(slog.NewTextHandler(out, nil)), nil
}

// journalHandler sends records to systemd's journal. The message is the text that a person reads; each attribute is also a field, by which "journalctl" selects:
// the attribute "list" is the field REMPART_LIST. While the journal takes no records, they are written to other.
type journalHandler struct {
	send   sendJournal
	other  io.Writer
	text   slog.Handler // formats the attributes
	mu     *sync.Mutex
	buf    *bytes.Buffer     // of text; guarded by mu
	fields map[string]string // of WithAttrs
	group  string
}

func newJournalHandler(send sendJournal, other io.Writer) *journalHandler {
	h := &journalHandler{send: send, other: other, mu: &sync.Mutex{}, buf: &bytes.Buffer{}, fields: map[string]string{}}
	h.text = slog.NewTextHandler(h.buf, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}})
	return h
}

// Enabled implements slog.Handler.
func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// Handle implements slog.Handler.
func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.mu.Lock()
	h.buf.Reset()
	err := h.text.Handle(ctx, r)
	attributes := strings.TrimSpace(h.buf.String())
	h.mu.Unlock()
	fields := maps.Clone(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		addField(fields, h.group, a)
		return true
	})
	message := config.Redact(strings.TrimSpace(r.Message + " " + attributes))
	if sent := h.send(message, priorityOf(r.Level), fields); sent != nil {
		_, lost := fmt.Fprintf(h.other, "%s %s (not in systemd's journal: %v)\n", r.Level, message, sent)
		err = errors.Join(err, lost)
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.text, with.fields = h.text.WithAttrs(attrs), maps.Clone(h.fields)
	for _, a := range attrs {
		addField(with.fields, h.group, a)
	}
	return &with
}

// WithGroup implements slog.Handler.
func (h *journalHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.text, with.group = h.text.WithGroup(name), h.group+name+"_"
	return &with
}

// addField adds an attribute as a field. The names of fields have upper-case letters, digits and underscores (systemd.journal-fields(7)).
func addField(fields map[string]string, group string, a slog.Attr) {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		for _, inner := range value.Group() {
			addField(fields, group+a.Key+"_", inner)
		}
		return
	}
	name := strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(group+a.Key))
	fields[config.Prefix+name] = config.Redact(fmt.Sprint(value.Any()))
}

func priorityOf(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	}
	return journal.PriInfo
}
