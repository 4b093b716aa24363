// Package running finds the server that a command examines: the one that runs on this machine, or the settings with which one would run.
package running

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

// SettingsFile is the settings file of the packaged unit, and stateFolder its data folder unless the file names one.
const (
	SettingsFile = "/etc/rempart/rempart.env"
	stateFolder  = "/var/lib/rempart"
)

// ClientOnly is the part of help texts about commands that need the running server.
const ClientOnly = `It asks the server that runs on this machine, over its socket (REMPART_SOCKET): run it as the server's user, or as root.`

// Service is the server that a command examines: the one that runs on this machine, or one that would run with the same settings.
type Service struct {
	Environ map[string]string // its variables
	Config  *config.Config    // Environ, parsed
	From    string            // the origin of Environ, in words
	Client  *local.Client     // nil: no running server with these settings was found
}

// ErrNone means that a command cannot determine which set it examines.
var ErrNone = errors.New("no server to ask")

// Find finds the server that a command asks about: by the variables that name a set, else the server that runs here, else by the settings file of the
// packages. Without any of them a command must not answer: it would report that names pass which the server blocks.
//
// paths are the files on the command line. They become absolute if Find changes to the server's folder.
func Find(ctx context.Context, paths ...*string) (*Service, error) {
	environ := config.Environ()
	s := &Service{Environ: environ, From: "the environment"}
	sockets := config.SocketPaths(environ)
	client, denied := local.Find(sockets...)
	switch named := config.SetVariables(environ); {
	case len(named) > 0:
		if client == nil {
			break
		}
		if settings, err := client.Settings(ctx); err == nil && sameSet(environ, settings) { // otherwise it is another server
			s.Client = client
		}
	case client != nil:
		settings, err := client.Settings(ctx)
		if err != nil {
			return nil, err
		}
		s.Client, s.From, s.Environ = client, "the running server", MergeEnviron(environ, settings)
		if err := changeFolder(settings["PWD"], paths); err != nil {
			return nil, fmt.Errorf("the running server's folder: %w", err)
		}
	case denied != nil:
		return nil, denied
	default:
		settings, err := ReadSettings()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: no server answers on the socket %s (is it running? if it is, set REMPART_DATA_DIR or REMPART_SOCKET to the value that it has), none of the variables REMPART_LISTS, REMPART_FEEDS and REMPART_CONTROL is set, and there is no %s",
				ErrNone, strings.Join(sockets, " or "), SettingsFile)
		}
		if err != nil {
			return nil, err
		}
		s.From, s.Environ = SettingsFile, MergeEnviron(environ, settings)
	}
	var err error
	s.Config, err = config.LoadFrom(s.Environ)
	return s, err
}

// FindUnless does what Find does, but needs no service if given is true: the command line names everything.
func FindUnless(ctx context.Context, given bool, paths ...*string) (*Service, error) {
	s, err := Find(ctx, paths...)
	if given && errors.Is(err, ErrNone) {
		s = &Service{Environ: config.Environ(), From: "the environment"}
		s.Config, err = config.LoadFrom(s.Environ)
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

// MergeEnviron returns settings together with the variables of environ that are not Rempart's or belong to the operators' API.
func MergeEnviron(environ, settings map[string]string) map[string]string {
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

// ReadSettings reads the settings file of the packaged unit.
func ReadSettings() (map[string]string, error) {
	f, err := os.Open(SettingsFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	settings, err := config.ReadEnvFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", SettingsFile, err)
	}
	if settings[config.Prefix+"DATA_DIR"] == "" {
		settings[config.Prefix+"DATA_DIR"] = stateFolder
	}
	return settings, nil
}

// Client returns a client of the server that runs here. It returns an error if no server answers.
func Client(ctx context.Context) (*local.Client, error) {
	of, err := Find(ctx)
	if err != nil {
		return nil, err
	}
	if of.Client == nil {
		return nil, fmt.Errorf("%w: by %s, no server answers on its socket; is it running?", ErrNone, of.From)
	}
	return of.Client, nil
}
