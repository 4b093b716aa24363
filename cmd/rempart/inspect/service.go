package inspect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rempart/cmd/rempart/setup"
	"rempart/internal/config"
	"rempart/internal/local"
)

// systemSettings is the settings file of the packaged units, and systemState their data folder unless the file names one.
const (
	systemSettings = "/etc/rempart/rempart.env"
	systemState    = "/var/lib/rempart"
)

// service is the server that a command examines: the one that runs on this machine, or one that would run with the same settings.
type service struct {
	environ map[string]string // its variables
	config  *config.Config    // environ, parsed
	from    string            // the origin of environ, in words
	client  *local.Client     // nil: no running server with these settings was found
}

// errNoService means that a command cannot determine which set it examines.
var errNoService = errors.New("no server to ask")

// findService finds the server that a command asks about: by the variables that name a set, else the server that runs here, else by the settings file of the
// packages. Without any of them a command must not answer: it would report that names pass which the server blocks.
//
// paths are the files on the command line. They become absolute if findService changes to the server's folder.
func findService(ctx context.Context, paths ...*string) (*service, error) {
	environ := config.Environ()
	s := &service{environ: environ, from: "the environment"}
	sockets := config.SocketPaths(environ)
	client, denied := local.Find(sockets...)
	switch named := config.SetVariables(environ); {
	case len(named) > 0:
		if client == nil {
			break
		}
		if settings, err := client.Settings(ctx); err == nil && sameSet(environ, settings) { // otherwise it is another server
			s.client = client
		}
	case client != nil:
		settings, err := client.Settings(ctx)
		if err != nil {
			return nil, err
		}
		s.client, s.from, s.environ = client, "the running server", mergeEnviron(environ, settings)
		if err := changeFolder(settings["PWD"], paths); err != nil {
			return nil, fmt.Errorf("the running server's folder: %w", err)
		}
	case denied != nil:
		return nil, denied
	default:
		settings, err := readSystemSettings()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: no server answers on the socket %s (is it running? if it is, set REMPART_DATA_DIR or REMPART_SOCKET to the value that it has), none of the variables REMPART_LISTS, REMPART_FEEDS and REMPART_CONTROL is set, and there is no %s",
				errNoService, strings.Join(sockets, " or "), systemSettings)
		}
		if err != nil {
			return nil, err
		}
		s.from, s.environ = systemSettings, mergeEnviron(environ, settings)
	}
	var err error
	s.config, err = config.LoadFrom(s.environ)
	return s, err
}

// findServiceUnless does what findService does, but needs no service if given is true: the command line names everything.
func findServiceUnless(ctx context.Context, given bool, paths ...*string) (*service, error) {
	s, err := findService(ctx, paths...)
	if given && errors.Is(err, errNoService) {
		s = &service{environ: config.Environ(), from: "the environment"}
		s.config, err = config.LoadFrom(s.environ)
	}
	return s, err
}

// sameSet reports whether two environments name the same set.
func sameSet(a, b map[string]string) bool {
	named := config.SetVariables(a)
	if !slices.Equal(named, config.SetVariables(b)) {
		return false
	}
	here, err := os.Getwd()
	return !slices.ContainsFunc(named, func(name string) bool {
		return a[name] != b[name] || isRelative(a[name]) && (err != nil || here != b["PWD"])
	})
}

// isRelative reports whether one of the values, separated by commas, is a relative path.
func isRelative(values string) bool {
	return slices.ContainsFunc(strings.Split(values, ","), func(v string) bool {
		v = strings.TrimSpace(v)
		return v != "" && !strings.Contains(v, "://") && !filepath.IsAbs(v)
	})
}

// changeFolder changes to the folder of the running server, whose settings may hold relative paths.
func changeFolder(dir string, paths []*string) error {
	if here, err := os.Getwd(); dir == "" || err == nil && here == dir {
		return nil
	}
	for _, p := range paths {
		if *p != "" && *p != "-" {
			*p = setup.AbsolutePath(*p)
		}
	}
	return os.Chdir(dir)
}

// mergeEnviron returns settings together with the variables of environ that are not Rempart's or belong to the operators' API.
func mergeEnviron(environ, settings map[string]string) map[string]string {
	all := map[string]string{}
	for name, value := range environ {
		if !strings.HasPrefix(name, config.Prefix) || strings.HasPrefix(name, config.Prefix+"API") {
			all[name] = value
		}
	}
	for name, value := range settings {
		all[name] = value
	}
	return all
}

// readSystemSettings reads the settings file of the packaged unit.
func readSystemSettings() (map[string]string, error) {
	f, err := os.Open(systemSettings)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	settings, err := config.ReadEnvFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", systemSettings, err)
	}
	if settings[config.Prefix+"DATA_DIR"] == "" {
		settings[config.Prefix+"DATA_DIR"] = systemState
	}
	return settings, nil
}
