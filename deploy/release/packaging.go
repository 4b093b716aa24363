package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// collectPackaging takes the files that packages install or run from the documents, and the scripts from the clone in dir.
func collectPackaging(dir string, d *documents) (packaging, error) {
	p := packaging{scripts: map[string][]byte{}, sysusers: d.data("deploy/systemd/sysusers.conf")}
	for _, f := range d.tree {
		folder, name := path.Split(f.name)
		if ext := path.Ext(name); folder == "deploy/systemd/" && (ext == ".service" || ext == ".socket") {
			p.units = append(p.units, file{name: name, data: f.data})
		}
	}
	for _, name := range []string{"allow.txt", "feeds.toml", "released.txt"} {
		data := d.data("deploy/" + name)
		if data == nil {
			return p, fmt.Errorf("the commit has no deploy/%s, which packages install in /etc/rempart", name)
		}
		p.household = append(p.household, file{name: name, data: data})
	}
	var err error
	if p.settings, err = packageSettings(string(d.data("deploy/household.env"))); err != nil {
		return p, err
	}
	scripts := filepath.Join(dir, "deploy", "release", "scripts")
	common, err := os.ReadFile(filepath.Join(scripts, "common.sh"))
	if err != nil {
		return p, err
	}
	for _, name := range []string{"deb-postinst", "deb-prerm", "deb-postrm", "rpm-post", "rpm-preun", "rpm-postun"} {
		text, err := os.ReadFile(filepath.Join(scripts, name+".sh"))
		if err != nil {
			return p, err
		}
		whole := "#!/bin/sh\nset -e\n"
		if strings.Contains(string(text), "port_is_taken") {
			whole += string(common)
		}
		p.scripts[name] = []byte(whole + string(text))
	}
	return p, nil
}

// packageSettings returns the settings of a package: those of a household, but a package starts the server before anybody read them. It therefore serves this
// machine only, and fetches nothing.
func packageSettings(household string) ([]byte, error) {
	for _, change := range []struct{ from, to string }{
		{"REMPART_LISTEN=:53", "# This machine only. \":53\" serves the home network.\nREMPART_LISTEN=127.0.0.1:53,[::1]:53"},
		{"REMPART_FEEDS=/etc/rempart/feeds.toml", "# Until you have read them and remove the # here, only the test names phishing.test and malware.test are blocked.\n#REMPART_FEEDS=/etc/rempart/feeds.toml"},
		{"REMPART_PAGE_LISTEN=:80", "# This machine only. \":80\" serves the page to the home network.\nREMPART_PAGE_LISTEN=127.0.0.1:80"},
	} {
		from := "\n" + change.from + "\n"
		if strings.Count(household, from) != 1 {
			return nil, fmt.Errorf("deploy/household.env must have the line %q once: the settings of packages are made of it", change.from)
		}
		household = strings.Replace(household, from, "\n"+change.to+"\n", 1)
	}
	return []byte(household), nil
}
