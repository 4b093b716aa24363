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
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"rempart/internal/units"
)

// Prefix begins the name of every variable.
const Prefix = "REMPART_"

// Config is every setting. The doc tags are the README's table, which a test keeps equal.
type Config struct {
	Listen           Addrs         `env:"LISTEN" envDefault:"127.0.0.1:5300" doc:"Addresses to answer DNS on, over UDP and TCP, separated by commas. An empty host (\":53\") is every address, IPv4 and IPv6."`
	Upstreams        List          `env:"UPSTREAMS" doc:"Resolvers to forward to, in order of preference: \"udp://192.0.2.1\", \"tcp://192.0.2.1:53\", \"tls://192.0.2.1:853#name.example\" (the name on its certificate). DNS over HTTPS is not supported. Empty: the name servers of /etc/resolv.conf."`
	Lists            List          `env:"LISTS" doc:"Lists of names to block: paths, file or http(s) URLs, separated by commas. The format of each line is detected."`
	Feeds            string        `env:"FEEDS" doc:"Path of a feeds file: lists with a name, a format, a category, a weight and more each, in TOML."`
	Allow            string        `env:"ALLOW" doc:"Path of a list of names never to block, whatever lists say."`
	Essential        string        `env:"ESSENTIAL" doc:"Path of more names that no list may block, beside those shipped: a name a line, with all below it; \"=name\" for itself alone."`
	Popular          string        `env:"POPULAR" doc:"Path of a popularity list instead of the shipped one: \"rank,name\" a line, or names in the order of their ranks; gzip or not."`
	PopularBound     int           `env:"POPULAR_BOUND" envDefault:"10000" doc:"The last rank that is popular, from 1 on: listings of popular names are held. The higher, the more is held."`
	Released         string        `env:"RELEASED" doc:"Path of what a person released: a held name a line; \"list:NAME\" for a list that may change out of proportion."`
	PageIPv4         Addr          `env:"PAGE_IPV4" envDefault:"127.0.0.1" doc:"IPv4 address of the warning page, the answer to A of a blocked name; \"none\" for no data."`
	PageIPv6         Addr          `env:"PAGE_IPV6" envDefault:"::1" doc:"IPv6 address of the warning page, the answer to AAAA of a blocked name; \"none\" for no data."`
	PageListen       Addrs         `env:"PAGE_LISTEN" envDefault:"127.0.0.1:8080" doc:"Addresses to serve the warning page on, over HTTP; \"none\" for no page."`
	MetricsListen    Addrs         `env:"METRICS_LISTEN" envDefault:"127.0.0.1:9253" doc:"Addresses to serve /metrics, /livez and /readyz on; \"none\" for none."`
	DataDir          string        `env:"DATA_DIR" doc:"Folder for the set, its version and the last good copy of each list. Empty: systemd's state folder, else rempart under the user's state folder (~/.local/state)."`
	Socket           string        `env:"SOCKET" doc:"Path of the Unix socket on which the commands of this machine's owner ask the server; \"none\" for none. Empty: rempart.sock in systemd's runtime folder, else in the data folder."`
	CacheBytes       Bytes         `env:"CACHE_BYTES" envDefault:"64MiB" doc:"Memory for cached answers, with or without a unit (\"64M\" and \"64MiB\" are powers of 1024, \"64MB\" of 1000); 1 MiB at least."`
	BlockTTL         time.Duration `env:"BLOCK_TTL" envDefault:"30s" doc:"How long clients may keep a blocked answer, and so how soon an unblocking is felt: 1 s to 1 h."`
	BlockAnswer      BlockAnswer   `env:"BLOCK_ANSWER" envDefault:"page" doc:"What a blocked name gets: \"page\" (the page's addresses), \"nxdomain\", \"nodata\", \"refused\" or \"null\" (0.0.0.0 and ::)."`
	Clients          Clients       `env:"CLIENTS" envDefault:"127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,fc00::/7,fe80::/10,on-link" doc:"Who may ask: prefixes, separated by commas; \"on-link\" is every network that an interface of this machine has an address in, as interfaces change, except public ones larger than an IPv4 /24 or an IPv6 /48. Others get REFUSED."`
	Limits           Limits        `env:"LIMITS" envDefault:"256KiB" doc:"How many bytes per second one client network (IPv4 /24, IPv6 /56) may receive in UDP answers; only the part of an answer above three times the size of its query is limited. Beyond the limit answers are truncated, and real clients ask again over TCP: an attacker who forges source addresses cannot flood other networks. \"prefix=limit\" pairs after the limit set other limits for the clients in a prefix or at an address, such as an ISP's resolvers: of each network in a large prefix, of all clients together in one that is smaller than a network; \"none\" means no limit."`
	Forward          Forwards      `env:"FORWARD" doc:"Zones with resolvers of their own, as zone=upstream pairs separated by commas (\"home.arpa=udp://192.168.1.1\"): local zones, private reverse zones. Empty: names of special use never leave."`
	Mode             Mode          `env:"MODE" envDefault:"enforce" doc:"\"enforce\", or \"observe\": answer as if unfiltered, and count what would have been blocked."`
	Refresh          time.Duration `env:"REFRESH" envDefault:"1h" doc:"How often lists are looked at again, beside when a file changes: 1 min to 7 days, like \"90m\", \"12h\" or \"1d\"."`
	BusyPoll         time.Duration `env:"BUSY_POLL" envDefault:"0s" doc:"How long a core that was just asked over UDP goes on asking for the next query before it sleeps, up to 1 ms: answers come sooner by a wake-up, and the core is busy while queries come. Not for a machine of one core. Linux only."`
	StructuredOption uint16        `env:"STRUCTURED_OPTION" envDefault:"65001" doc:"Code of the empty EDNS option by which a client asks for structured errors (draft-ietf-dnsop-structured-dns-error has none assigned yet); 0 for none."`
	Reason           Reason        `env:"REASON" envDefault:"category" doc:"What a blocked answer says of itself in its extended error: \"category\", or \"lists\": also which lists name it, and since when."`
	Contact          string        `env:"CONTACT" doc:"URI (mailto:, tel:, https:) told in structured errors and on the page: where to say that a block is wrong."`
	Organisation     string        `env:"ORGANISATION" envDefault:"Rempart" doc:"Who runs this filter, told in structured errors and on the page."`

	Home
	Edge
	Operators
	RPZ
	Client
}

// Load reads the environment of a server. Its error names each bad variable, its value, and what would be right; and each variable that is misspelt, so that
// no setting is ignored by mistake.
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

// Bad is the error of a variable whose value does not do. right says what would.
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

// explain turns the library's error, which names a struct's field, into one about the variable.
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

// maxRank is the most a popularity list can rank.
const maxRank = 5_000_000

// check is what the types alone do not say.
func (c *Config) check(environ map[string]string) (errs []error) {
	bad := func(variable, right string) {
		errs = append(errs, Bad(variable, environ[Prefix+variable], right))
	}
	if c.BlockTTL < time.Second || c.BlockTTL > time.Hour {
		bad("BLOCK_TTL", "from 1s to 1h")
	}
	if c.BusyPoll < 0 || c.BusyPoll > time.Millisecond {
		bad("BUSY_POLL", "from 0s, never, to 1ms")
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
	for _, addr := range c.MetricsListen {
		if addr.Port() != 0 && slices.Contains(c.PageListen, addr) {
			bad("METRICS_LISTEN", addr.String()+" is where the page is served (REMPART_PAGE_LISTEN): each needs an address or a port of its own")
		}
	}
	if len(c.Listen) == 0 {
		bad("LISTEN", "at least one address, like 127.0.0.1:5300 or :53")
	}
	if c.Contact != "" && !strings.HasPrefix(c.Contact, "mailto:") && !strings.HasPrefix(c.Contact, "tel:") && !strings.HasPrefix(c.Contact, "https://") {
		bad("CONTACT", "a URI like mailto:abuse@isp.example, tel:+33123456789 or https://isp.example/appeal")
	}
	if len(c.Contact) > 200 || len(c.Organisation) > 100 {
		bad("CONTACT", "at most 200 octets, and at most 100 of "+Prefix+"ORGANISATION: both must fit a DNS answer")
	}
	c.checkControl(bad)
	c.checkRPZ(bad)
	return errs
}

// defaultDataDir is where a program of this kind keeps its state.
func defaultDataDir(environ map[string]string) (string, error) {
	if dir := environ["STATE_DIRECTORY"]; dir != "" {
		dir, _, _ = strings.Cut(dir, ":") // systemd.exec(5): several are separated so
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

// Table is the README's table of variables, in Markdown.
func Table() string {
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	eachField(func(f reflect.StructField) {
		def := f.Tag.Get("envDefault")
		if def != "" {
			def = "`" + strings.ReplaceAll(def, ",", "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", Prefix, f.Tag.Get("env"), def, f.Tag.Get("doc"))
	})
	return b.String()
}

// none is how a value is switched off where empty means the default.
const none = "none"

// Addr is an address, not valid for "none".
type Addr struct{ netip.Addr }

// UnmarshalText reads it.
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
