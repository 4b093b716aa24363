package setup

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/resolver/cookie"
)

// Cookies are the secrets of server cookies: those of REMPART_COOKIE_SECRETS, or a random one.
type Cookies struct {
	file   *reload.Value[*cookie.Secrets] // nil without a file
	random *cookie.Secrets
}

// NewCookies reads the secrets.
func NewCookies(c *config.Config, log *slog.Logger) (*Cookies, error) {
	path := c.CookieSecrets
	if path == "" {
		return &Cookies{random: cookie.Random()}, nil
	}
	file, err := reload.New(log, "REMPART_COOKIE_SECRETS", []string{path}, func() (*cookie.Secrets, error) { return readCookieSecrets(path) })
	if err != nil {
		return nil, fmt.Errorf("REMPART_COOKIE_SECRETS: %w", err)
	}
	return &Cookies{file: file}, nil
}

func readCookieSecrets(path string) (*cookie.Secrets, error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecretFile))
	if err != nil {
		return nil, err
	}
	secrets, err := cookie.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secrets, nil
}

// Secrets returns the secrets in use. It is safe for concurrent use.
func (c *Cookies) Secrets() *cookie.Secrets {
	if c.file == nil {
		return c.random
	}
	return c.file.Get()
}

// Reload reads the file again.
func (c *Cookies) Reload() {
	if c.file != nil {
		c.file.Reload()
	}
}

// Run reloads whenever the file changes, until ctx ends.
func (c *Cookies) Run(ctx context.Context) error {
	if c.file == nil {
		return nil
	}
	return c.file.Run(ctx)
}
