package setup

import (
	"log/slog"

	"rempart/internal/config"
	"rempart/resolver/cookie"
)

// Cookies are the secrets of server cookies: those of REMPART_COOKIE_SECRETS, or a random one.
type Cookies = SharedSecrets[*cookie.Secrets]

// NewCookies reads the secrets.
func NewCookies(c *config.Config, log *slog.Logger) (*Cookies, error) {
	return newSharedSecrets("REMPART_COOKIE_SECRETS", c.CookieSecrets, log, cookie.Parse, cookie.Random)
}
