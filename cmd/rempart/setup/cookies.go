package setup

import (
	"log/slog"

	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/config"
	"rempart/internal/secret"
	"rempart/resolver/cookie"
)

// Cookies are the secrets of server cookies.
type Cookies = secrets.Shared[*cookie.Secrets]

// NewCookies reads the secrets. Without REMPART_COOKIE_SECRETS the secret is own.
func NewCookies(c *config.Config, own secret.Secret, log *slog.Logger) (*Cookies, error) {
	return secrets.NewShared("REMPART_COOKIE_SECRETS", c.CookieSecrets, log, cookie.Parse, func() *cookie.Secrets { return cookie.Of(own) })
}
