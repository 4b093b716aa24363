package firstrun

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"rempart/deploy"
	"rempart/internal/config"
	"rempart/internal/durable"
)

const (
	settingsFile = "rempart.env" // as in running.SettingsFile
	feedsFile    = "feeds.toml"

	maxFile = 16 << 20 // more than any file of settings or lists has, in bytes

	// freshMark is the first line of the settings of a package.
	freshMark = "# While this line is here, \"rempart setup\" replaces this file without a question."

	// writtenMark begins the first line of a file that setup wrote. The checksum of the other lines follows.
	writtenMark = "# \"rempart setup\" wrote this file, and replaces it without a question unless somebody changes it. Checksum of the lines below: "
)

// recall reads the files of an earlier setup or of a person. Their values are the defaults of the questions and of --listen, except where a flag was given.
// Settings that nobody changed since a package installed them, and settings that cannot be parsed, give no defaults.
func (s *session) recall() error {
	text, err := s.read(settingsFile)
	if err != nil {
		return err
	}
	environ, err := config.ReadEnvFile(bytes.NewReader(text))
	if err == nil && !bytes.HasPrefix(text, []byte(freshMark)) {
		for _, v := range []struct {
			flag, name string
			value      *string
			accept     func(string) error
		}{
			{"listen", "LISTEN", &s.listen, func(string) error { return nil }},
			{"page", "PAGE_IPV4", &s.page, acceptPage},
			{"upstreams", "UPSTREAMS", &s.upstreams, acceptUpstreams},
		} {
			if text := environ[config.Prefix+v.name]; text != "" && !s.given(v.flag) && v.accept(text) == nil {
				*v.value = text
			}
		}
	}
	if text, err = s.read(feedsFile); err != nil || len(text) == 0 || s.given("lists") || isShipped(feedsFile, text) {
		return err
	}
	all, err := shippedFeeds()
	if err == nil {
		s.lists = all.chosenIn(string(text))
	}
	return err
}

// read returns the content of a file; nothing if there is none.
func (s *session) read(name string) ([]byte, error) {
	text, err := durable.ReadRegular(s.file(name), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// writeFiles writes the files of the plan, and those that they name.
func (s *session) writeFiles(p plan) error {
	settings, err := settingsText(p, s.listen, s.dir)
	if err != nil {
		return err
	}
	if err := s.replace(feedsFile, marked(p.feeds), "lists"); err != nil {
		return err
	}
	for _, name := range []string{"allow.txt", "released.txt"} { // they hold the household's own names, and are never replaced
		text, err := deploy.Household.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := durable.OpenRegular(s.file(name))
		switch {
		case err == nil:
			f.Close()
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := s.write(name, string(text)); err != nil {
			return err
		}
	}
	return s.replace(settingsFile, marked(settings), "listen", "page", "upstreams") // last: it names the others
}

// replace writes a file. If somebody changed the present file, replace asks first; with --yes it keeps the file, or replaces it with --force. An error is returned
// if the file stays and one of flags was given.
func (s *session) replace(name, text string, flags ...string) error {
	before, err := s.read(name)
	if err != nil {
		return err
	}
	if len(before) == 0 || string(before) == text || isUnchanged(name, before) {
		return s.write(name, text)
	}
	old := s.unused(name + ".old")
	yes := s.force
	if !s.yes {
		if yes, err = s.confirm(fmt.Sprintf("%s was changed since setup wrote it. Replace it, and keep the present file as %s?", s.file(name), s.file(old)), false); err != nil {
			return err
		}
	}
	if !yes {
		if i := slices.IndexFunc(flags, s.given); s.yes && i >= 0 {
			return fmt.Errorf("--%s cannot take effect, because somebody changed %s: edit that file, or add --force, which replaces the file and keeps the present one as %s", flags[i], s.file(name), s.file(old))
		}
		s.say("%s stays as it is, because somebody changed it", s.file(name))
		return nil
	}
	if err := durable.WriteBytes(s.file(old), before); err != nil {
		return err
	}
	s.say("kept the earlier file as %s", s.file(old))
	return s.write(name, text)
}

// unused returns name if there is no such file, else name with a number behind it: a file that an earlier setup kept is not overwritten.
func (s *session) unused(name string) string {
	free := name
	for n := 2; ; n++ {
		if _, err := os.Lstat(s.file(free)); err != nil {
			return free
		}
		free = fmt.Sprintf("%s%d", name, n)
	}
}

// isUnchanged reports whether a file is as a package or setup wrote it.
func isUnchanged(name string, text []byte) bool {
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	if sum, written := strings.CutPrefix(string(first), writtenMark); written {
		return sum == checksum(rest)
	}
	return bytes.HasPrefix(text, []byte(freshMark)) || isShipped(name, text)
}

// isShipped reports whether a file is as packages hold it.
func isShipped(name string, text []byte) bool {
	shipped, err := deploy.Household.ReadFile(name)
	return err == nil && bytes.Equal(text, shipped)
}

// marked returns the text of a file with the line by which isUnchanged recognizes it.
func marked(text string) string { return writtenMark + checksum([]byte(text)) + "\n" + text }

func checksum(text []byte) string {
	sum := sha256.Sum256(text)
	return fmt.Sprintf("%x", sum[:8])
}

func (s *session) write(name, text string) error {
	mode := fs.FileMode(0o644) // the server's user reads it
	if name == settingsFile {
		mode = 0o640 // systemd reads it as root; it may hold a token
	}
	if err := durable.WriteMode(s.file(name), []byte(text), mode); err != nil {
		return err
	}
	s.say("wrote %s", s.file(name))
	return nil
}

// makeFolder makes a folder that the users of services can enter, whatever the umask is. One that exists stays as it is.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}
