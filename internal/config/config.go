// Package config reads Rempart's settings from the environment, once, at start. It knows none of
// Rempart's other packages except units: cmd copies the values to where they belong.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"rempart/internal/units"
)

// Prefix begins the name of every variable.
const Prefix = "REMPART_"

// Config holds all settings. The doc tags and the titles of the groups are the text of deploy/settings.md, which a test keeps equal.
type Config struct {
	DNS           `title:"Answering queries"`
	Encrypted     `title:"Encrypted transports"`
	Upstream      `title:"Forwarding"`
	Blocklists    `title:"Lists and guards"`
	Blocking      `title:"Blocked answers and the warning page"`
	Public        `title:"The portal, appeals, statistics and the texts of pages"`
	Home          `title:"Home networks"`
	Process       `title:"The process"`
	Edge          `title:"Following control"`
	ControlServer `title:"Running control"`
	Cluster       `title:"A journal on a NATS cluster"`
	RPZ           `title:"Response policy zones"`
	Client        `title:"Commands that call the operators' API"`
}

// Load reads the environment of a server. Its error names each invalid variable, its value and valid values; and each misspelt variable, so that no setting is
// ignored by mistake.
func Load() (*Config, error) {
	environ := Environ()
	var errs []error
	misspelt, _ := Unknown(environ)
	for _, text := range misspelt {
		errs = append(errs, errors.New(text))
	}
	c, err := LoadFrom(environ)
	if err = errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return c, nil
}

// Environ returns the variables of this process.
func Environ() map[string]string { return env.ToMap(os.Environ()) }

// LoadFrom is Load with the variables in environ instead of this process's.
func LoadFrom(environ map[string]string) (*Config, error) { return load(environ) }

func load(environ map[string]string) (*Config, error) {
	var c Config
	err := env.ParseWithOptions(&c, options(environ))
	var errs []error
	if aggregate := (env.AggregateError{}); errors.As(err, &aggregate) {
		for _, e := range aggregate.Errors {
			errs = append(errs, explain(e, environ))
		}
	} else if err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = c.check(environ)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if c.DataDir == "" {
		if c.DataDir, err = defaultDataDir(environ); err != nil {
			return nil, err
		}
	}
	c.Socket = socketPath(c.Socket, c.DataDir, environ)
	return &c, nil
}

// socketPath returns the path of the server's socket; "" if it has none.
func socketPath(configured, dataDir string, environ map[string]string) string {
	switch {
	case configured == none:
		return ""
	case configured != "":
		return configured
	}
	if dir, _, _ := strings.Cut(environ["RUNTIME_DIRECTORY"], ":"); dir != "" { // systemd.exec(5)
		dataDir = dir
	}
	return filepath.Join(dataDir, SocketName)
}

// SocketName is the name of the server's socket in its folder.
const SocketName = "rempart.sock"

// SocketPaths returns the paths at which a server on this machine may have its socket. environ holds a command's variables; if REMPART_SOCKET or
// REMPART_DATA_DIR is set, the result has that path only.
func SocketPaths(environ map[string]string) (paths []string) {
	switch {
	case environ[Prefix+"SOCKET"] == none:
		return nil
	case environ[Prefix+"SOCKET"] != "":
		return []string{environ[Prefix+"SOCKET"]}
	case environ[Prefix+"DATA_DIR"] != "":
		return []string{filepath.Join(environ[Prefix+"DATA_DIR"], SocketName)}
	}
	paths = []string{filepath.Join("/run/rempart", SocketName)}
	if dir, err := defaultDataDir(environ); err == nil {
		paths = append(paths, filepath.Join(dir, SocketName))
	}
	return paths
}

// options returns how variables are parsed: durations in the notation of package units.
func options(environ map[string]string) env.Options {
	return env.Options{Prefix: Prefix, Environment: environ, FuncMap: map[reflect.Type]env.ParserFunc{
		reflect.TypeFor[time.Duration](): func(text string) (any, error) { return units.ParseDuration(text) },
	}}
}

// Bad returns the error of a variable with an invalid value. right describes the valid values.
func Bad(variable, value, right string) error {
	secret := false
	eachField(func(f reflect.StructField) {
		secret = secret || f.Tag.Get("env") == variable && f.Tag.Get("secret") != ""
	})
	if secret && value != "" {
		value = hidden
	}
	return fmt.Errorf("%s=%q: %s", Prefix+variable, Redact(value), Redact(right))
}

// explain turns an error of the library, which names a struct's field, into one about the variable.
func explain(err error, environ map[string]string) error {
	var parse env.ParseError
	if !errors.As(err, &parse) {
		return err
	}
	field, ok := reflect.TypeFor[Config]().FieldByName(parse.Name)
	if !ok {
		return err
	}
	variable := field.Tag.Get("env")
	why := parse.Err.Error()
	switch field.Type {
	case reflect.TypeFor[time.Duration]():
		why = "not a duration: write it like 30s, 90m, 12h, 7d or 2w"
	case reflect.TypeFor[uint16]():
		why = "not a number from 0 to 65535"
	case reflect.TypeFor[int]():
		why = "not a number: write it like 10000"
	}
	return Bad(variable, environ[Prefix+variable], why)
}

// maxRank is the highest rank of a popularity list.
const maxRank = 5_000_000

// check checks what the types alone do not express.
func (c *Config) check(environ map[string]string) (errs []error) {
	bad := func(variable, right string) {
		errs = append(errs, Bad(variable, environ[Prefix+variable], right))
	}
	if c.BlockTTL < time.Second || c.BlockTTL > time.Hour {
		bad("BLOCK_TTL", "from 1s to 1h")
	}
	if c.Continue < time.Minute || c.Continue > 24*time.Hour {
		bad("CONTINUE", "from 1m to 24h")
	}
	if c.ContinueOrders < 0 || c.ContinueOrders > 366*24*time.Hour {
		bad("CONTINUE_ORDERS", "from 0s (never) to 366d")
	}
	if len(c.ContinueCategories) > 0 || c.ContinueOrders > 0 {
		if c.BlockAnswer != "page" {
			bad("BLOCK_ANSWER", "\"page\" with "+Prefix+"CONTINUE_CATEGORIES or "+Prefix+"CONTINUE_ORDERS: people continue from the warning page")
		}
	}
	if c.Connections < 0 || c.Connections > 10_000_000 {
		bad("CONNECTIONS", "0, or the number of connections, at most 10000000")
	}
	if c.Handshakes < 0 || c.Handshakes > maxAnswers {
		bad("HANDSHAKES", fmt.Sprintf("from 0 (no limit) to %d", maxAnswers))
	}
	if c.DnstapSample < 1 || c.DnstapSample > 1_000_000 {
		bad("DNSTAP_SAMPLE", "from 1 (every answer) to 1000000")
	}
	if c.BusyPoll < 0 || c.BusyPoll > time.Millisecond {
		bad("BUSY_POLL", "from 0s (never) to 1ms")
	}
	if c.Refresh < time.Minute || c.Refresh > 7*24*time.Hour {
		bad("REFRESH", "from 1m to 7d")
	}
	if c.CacheBytes < 1<<20 {
		bad("CACHE_BYTES", "1MiB at least, like 64MiB")
	}
	if c.PopularBound < 1 || c.PopularBound > maxRank {
		bad("POPULAR_BOUND", fmt.Sprintf("from 1 to %d, the last rank whose names are held; the higher, the more is", maxRank))
	}
	if c.PageIPv4.IsValid() && !c.PageIPv4.Is4() {
		bad("PAGE_IPV4", `an IPv4 address like 192.0.2.1, or "none"`)
	}
	if c.PageIPv6.IsValid() && (c.PageIPv6.Is4() || c.PageIPv6.Is4In6() || c.PageIPv6.Zone() != "") {
		bad("PAGE_IPV6", `an IPv6 address like 2001:db8::1, or "none"`)
	}
	if len(c.Listen) == 0 {
		bad("LISTEN", "at least one address, like 127.0.0.1:5300 or :53")
	}
	if c.Contact != "" && !strings.HasPrefix(c.Contact, "mailto:") && !strings.HasPrefix(c.Contact, "tel:") && !strings.HasPrefix(c.Contact, "https://") {
		bad("CONTACT", "a URI like mailto:abuse@isp.example, tel:+33123456789 or https://isp.example/appeal")
	}
	if len(c.Contact) > 200 || len(c.Organisation) > 100 {
		bad("CONTACT", "at most 200 bytes, and at most 100 of "+Prefix+"ORGANISATION: both must fit a DNS answer")
	}
	if c.FilteringDatabase != "" && !label.MatchString(c.FilteringDatabase) {
		bad("FILTERING_DATABASE", "at most 63 letters, digits, dots and hyphens, like lumen")
	}
	c.checkListeners(bad)
	c.checkEncrypted(bad)
	c.checkPublic(bad)
	c.checkControl(bad)
	c.checkRPZ(bad)
	return errs
}

// defaultDataDir returns the usual place for the state of such a program.
func defaultDataDir(environ map[string]string) (string, error) {
	if dir := environ["STATE_DIRECTORY"]; dir != "" {
		dir, _, _ = strings.Cut(dir, ":") // systemd.exec(5): several folders are separated by colons
		return dir, nil
	}
	if dir := environ["XDG_STATE_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "rempart"), nil
	}
	if home := environ["HOME"]; home != "" {
		return filepath.Join(home, ".local", "state", "rempart"), nil
	}
	return "", Bad("DATA_DIR", "", "no home folder to keep state in: set it to a folder this user can write to")
}

// Tables returns the tables of settings of deploy/settings.md, one per group, in Markdown.
func Tables() string {
	var b strings.Builder
	for _, group := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if !group.Anonymous {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| variable | default | meaning |\n|---|---|---|\n", group.Tag.Get("title"))
		for _, f := range reflect.VisibleFields(group.Type) {
			def := f.Tag.Get("envDefault")
			if def != "" {
				def = "`" + strings.ReplaceAll(def, ",", "`, `") + "`"
			}
			fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", Prefix, f.Tag.Get("env"), def, f.Tag.Get("doc"))
		}
	}
	return b.String()
}

// none is the value that turns something off whose empty value is the default.
const none = "none"

// Addr is an address, not valid for "none".
type Addr struct{ netip.Addr }

// UnmarshalText reads an address or "none".
func (a *Addr) UnmarshalText(text []byte) (err error) {
	if string(text) == none || len(text) == 0 {
		*a = Addr{}
		return nil
	}
	if a.Addr, err = netip.ParseAddr(string(text)); err != nil {
		return errors.New(`not an IP address, nor "none"`)
	}
	return nil
}
