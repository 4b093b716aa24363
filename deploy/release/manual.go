package main

import (
	"context"
	"fmt"
	"strings"
)

// manualWriter writes the pages of the manual from the help texts of the program, so that both always say the same.
type manualWriter struct {
	source *source
	host   string // a program that runs on this machine
	pages  []file
}

// writeManual returns a page for the program and one for each command.
func writeManual(ctx context.Context, s *source, host string) ([]file, error) {
	w := &manualWriter{source: s, host: host}
	if err := w.page(ctx, nil, "a DNS protective filter"); err != nil {
		return nil, err
	}
	return w.pages, nil
}

// page adds the page of a command and the pages of its subcommands.
func (w *manualWriter) page(ctx context.Context, command []string, short string) error {
	out, err := run(ctx, w.source.dir, nil, w.host, append(command[:len(command):len(command)], "--help")...)
	if err != nil {
		return err
	}
	help := parseHelp(string(out))
	name := strings.Join(append([]string{"rempart"}, command...), "-")
	var below []subcommand
	if help.hasCommands {
		if below, err = w.subcommands(ctx, command); err != nil {
			return err
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 8 %s \"rempart %s\" Rempart\n", strings.ToUpper(roff(name)), w.source.time.Format("2006-01-02"), w.source.version)
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n", roff(name), roff(short))
	verbatim(&b, help.usage)
	b.WriteString(".SH DESCRIPTION\n")
	prose(&b, help.description)
	if len(help.exit) > 0 {
		b.WriteString(".SH EXIT STATUS\n")
		prose(&b, help.exit)
	}
	if len(below) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, c := range below {
			fmt.Fprintf(&b, ".TP\n.BR %s (8)\n%s.\n", roff(strings.Join(append([]string{"rempart"}, c.path...), "-")), roff(c.short))
		}
	}
	b.WriteString(".SH OPTIONS\n")
	verbatim(&b, help.flags)
	if len(command) == 0 {
		b.WriteString(manualFiles)
	}
	b.WriteString(".SH SEE ALSO\n")
	if len(command) > 0 {
		b.WriteString(".BR rempart (8),\n")
	}
	b.WriteString("the guides in /usr/share/doc/rempart/deploy\n")
	w.pages = append(w.pages, file{name: name + ".8", data: []byte(b.String())})
	for _, c := range below {
		if err := w.page(ctx, c.path, c.short); err != nil {
			return err
		}
	}
	return nil
}

// manualFiles is the section about the files of the packages.
const manualFiles = `.SH FILES
.TP
/etc/rempart/rempart.env
settings of rempart.service: variables that begin with REMPART_, documented in /usr/share/doc/rempart/deploy/settings.md
.TP
/etc/rempart/control.env
settings of rempart\-control.service
.TP
/var/lib/rempart, /var/lib/rempart\-control
data of the server and of control
`

// subcommand is a command below another one.
type subcommand struct {
	path  []string
	short string
}

// subcommands asks the program as a shell does that completes a command line.
func (w *manualWriter) subcommands(ctx context.Context, command []string) ([]subcommand, error) {
	out, err := run(ctx, w.source.dir, nil, w.host, append(append([]string{"__complete"}, command...), "")...)
	if err != nil {
		return nil, err
	}
	var found []subcommand
	for line := range strings.Lines(string(out)) {
		name, short, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if ok && name != "help" {
			found = append(found, subcommand{append(command[:len(command):len(command)], name), short})
		}
	}
	return found, nil
}

// help is the output of --help, by parts.
type help struct {
	description, exit, usage, flags []string // lines
	hasCommands                     bool
}

func parseHelp(text string) help {
	var h help
	part := &h.description
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		switch {
		case line == "Usage:":
			part = &h.usage
			continue
		case line == "Flags:" || line == "Global Flags:":
			part = &h.flags
			continue
		case part == &h.description && strings.HasPrefix(line, "Exit code: "):
			part = &h.exit
			line = strings.TrimPrefix(line, "Exit code: ")
		case part == &h.usage && line == "", part == &h.flags && line == "":
			part = &[]string{} // lists of commands, and the hint at the end
			continue
		}
		h.hasCommands = h.hasCommands || strings.HasSuffix(line, " [command]")
		*part = append(*part, line)
	}
	return h
}

// prose writes paragraphs. Lines that begin with a space keep their form.
func prose(b *strings.Builder, lines []string) {
	for i, line := range lines {
		indented := strings.HasPrefix(line, " ")
		switch {
		case line == "" && i < len(lines)-1:
			b.WriteString(".PP\n")
		case line == "":
		case indented:
			verbatim(b, []string{line})
		default:
			b.WriteString(roff(line) + "\n")
		}
	}
}

func verbatim(b *strings.Builder, lines []string) {
	b.WriteString(".nf\n")
	for _, line := range lines {
		b.WriteString(roff(line) + "\n")
	}
	b.WriteString(".fi\n")
}

// roff escapes a line of text.
func roff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	return line
}
