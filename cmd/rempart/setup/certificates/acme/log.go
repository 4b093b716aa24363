package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// harmless are the fields of certmagic's log lines that are logged. Others hold addresses of clients, or say nothing to an administrator.
func harmless() []string {
	return []string{"attempt", "challenge_type", "error", "identifier", "identifiers", "max_attempts", "problem", "subject", "subjects", "url"}
}

// zapCore passes log lines to a slog.Logger. It implements zapcore.Core.
type zapCore struct {
	log    *slog.Logger
	fields []zapcore.Field
	silent *atomic.Bool // the program ends: interrupted work is not logged
}

// zapLogger returns a logger for certmagic and acmez. Their errors become warnings, such as which challenge failed, and everything else becomes debug lines:
// Manager logs an error with its consequence and what to do when a request failed.
func zapLogger(log *slog.Logger, silent *atomic.Bool) *zap.Logger {
	return zap.New(&zapCore{log: log, silent: silent})
}

func slogLevel(l zapcore.Level) slog.Level {
	if l >= zapcore.ErrorLevel {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Enabled implements zapcore.Core.
func (c *zapCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slogLevel(l))
}

// With implements zapcore.Core.
func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{c.log, slices.Concat(c.fields, fields), c.silent}
}

// Check implements zapcore.Core.
func (c *zapCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.LoggerName == "obtain" || e.LoggerName == "renew" { // Manager reports whether a request failed
		e.Level = zapcore.DebugLevel
	}
	if c.Enabled(e.Level) && !c.silent.Load() {
		return to.AddCore(e, c)
	}
	return to
}

// Write implements zapcore.Core.
func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	values := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		if slices.Contains(harmless(), f.Key) {
			f.AddTo(values)
		}
	}
	var all []any
	for _, key := range slices.Sorted(maps.Keys(values.Fields)) {
		value := values.Fields[key]
		if problem, ok := value.(map[string]any); ok { // RFC 7807
			value = problem["detail"]
		}
		all = append(all, key, value)
	}
	c.log.Log(context.Background(), slogLevel(e.Level), "ACME: "+e.Message, all...)
	return nil
}

// Sync implements zapcore.Core.
func (c *zapCore) Sync() error { return nil }
