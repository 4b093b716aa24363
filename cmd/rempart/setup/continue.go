package setup

import (
	"log/slog"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/cmd/rempart/setup/reload"
	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/config"
	"rempart/internal/grant"
	"rempart/internal/web/onward"
	"rempart/resolver"
)

// Continue holds how people continue to blocked names after a warning: the settings of REMPART_CONTINUE and the variables that begin with it.
type Continue struct {
	probe    []byte // REMPART_PROBE, canonical
	blocks   blocklist.Continuable
	duration time.Duration
	keys     *secrets.Shared[*grant.Secrets]
}

// NewContinue reads the settings and the secrets.
func NewContinue(c *config.Config, log *slog.Logger) (*Continue, error) {
	probe, err := blocklist.AppendName(nil, string(c.Probe))
	if err != nil {
		return nil, config.Bad("PROBE", string(c.Probe), err.Error())
	}
	n := &Continue{probe: probe, duration: c.Continue, blocks: blocklist.Continuable{Orders: int64(c.ContinueOrders / time.Second)}}
	var unknown string
	if n.blocks.Categories, unknown = blocklist.ParseCategories(c.ContinueCategories); unknown != "" {
		return nil, config.Bad("CONTINUE_CATEGORIES", unknown, "not a category: write some of "+strings.Join(blocklist.CategoryNames(), ", "))
	}
	n.keys, err = secrets.NewShared("REMPART_CONTINUE_KEY_FILE", c.ContinueKeyFile, log, grant.Parse, grant.Random)
	return n, err
}

// Probe returns the canonical name of REMPART_PROBE.
func (n *Continue) Probe() []byte { return n.probe }

// Grants returns the configuration of the resolver.
func (n *Continue) Grants() resolver.Grants {
	return resolver.Grants{Blocks: n.blocks, Duration: n.duration, Secrets: n.keys.Secrets}
}

// MayContinue reports whether people may continue to some blocked names.
func (n *Continue) MayContinue() bool { return !n.blocks.IsZero() }

// Links returns the links of the warning page; nil if nobody may continue. mayContinue is the resolver's MayContinue.
func (n *Continue) Links(mayContinue func(name []byte) bool) *onward.Links {
	if !n.MayContinue() {
		return nil
	}
	return onward.New(onward.Config{Zone: grant.NewZone(n.probe), Secrets: n.keys.Secrets, MayContinue: mayContinue})
}

// Files returns the file of the secrets, if there is one.
func (n *Continue) Files() reload.Files { return n.keys.Files() }
