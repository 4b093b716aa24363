package config

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

const (
	maxEnvFile = 1 << 20 // bytes
	maxEnvLine = 64 << 10
)

// ReadEnvFile reads the variables of a settings file, as systemd (EnvironmentFile= in systemd.exec(5)) and a shell that sources it do: one variable per line, its value bare or in
// single or double quotes. Lines that begin with "#" or ";" are comments, and an "export" before a variable is ignored. Values of several lines are not supported.
func ReadEnvFile(r io.Reader) (map[string]string, error) {
	environ := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(r, maxEnvFile))
	lines.Buffer(nil, maxEnvLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") {
			return nil, fmt.Errorf("line %d: not a variable: write NAME=value", n)
		}
		value, err := unquote(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", n, name, err)
		}
		environ[name] = value
	}
	return environ, lines.Err()
}

// unquote removes the quotes around a value.
func unquote(value string) (string, error) {
	if value == "" || value[0] != '"' && value[0] != '\'' {
		return value, nil
	}
	quote, rest := value[0], value[1:]
	var b strings.Builder
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == quote && strings.TrimSpace(rest[i+1:]) == "":
			return b.String(), nil
		case c == quote:
			return "", fmt.Errorf("something follows the closing %c", quote)
		case c == '\\' && quote == '"' && i+1 < len(rest) && strings.IndexByte("\"\\$`", rest[i+1]) >= 0:
			i++
			b.WriteByte(rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("the closing %c is missing", quote)
}
