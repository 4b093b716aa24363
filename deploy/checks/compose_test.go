package checks

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// loadCompose reads deploy/compose/compose.yaml as Docker Compose does: it validates the file against the schema of the Compose specification, which allows no unknown
// key, and resolves variables and references.
func loadCompose(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	dir := filepath.Join(repository, "deploy", "compose")
	o, err := cli.NewProjectOptions([]string{filepath.Join(dir, "compose.yaml")}, cli.WithWorkingDirectory(dir), cli.WithEnv(env), cli.WithResolvedPaths(true), cli.WithConsistency(true))
	if err != nil {
		t.Fatal(err)
	}
	return o.LoadProject(t.Context())
}

// TestComposeFileIsValid checks the containers: one network that is shared, ports on one address, nothing writable except volumes, and settings that Rempart accepts.
func TestComposeFileIsValid(t *testing.T) {
	p, err := loadCompose(t, "ADDRESS=192.168.1.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || s.Privileged || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.Restart != "unless-stopped" || s.PidsLimit == 0 {
			t.Errorf("%s: not confined, or not restarted: %+v", s.Name, s)
		}
		if s.Name == "network" {
			continue
		}
		if s.NetworkMode != "service:network" || len(s.Ports) > 0 {
			t.Errorf("%s does not share the network: %q, ports %v", s.Name, s.NetworkMode, s.Ports)
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) < 2 || s.HealthCheck.Disable {
			t.Errorf("%s has no health check", s.Name)
		}
		for _, v := range s.Volumes {
			if v.Type == types.VolumeTypeVolume && p.Volumes[v.Source].Name == "" {
				t.Errorf("%s: the volume %s is not declared", s.Name, v.Source)
			}
		}
	}
	rempart := p.Services["rempart"]
	settings := map[string]string{}
	for name, value := range rempart.Environment {
		settings[name] = *value
	}
	var ports []string
	for _, port := range p.Services["network"].Ports {
		if port.HostIP != "192.168.1.2" {
			t.Errorf("port %s is opened on %q", port.Published, port.HostIP)
		}
		setting := map[string]string{"53": "REMPART_LISTEN", "80": "REMPART_PAGE_LISTEN"}[port.Published]
		if !strings.HasSuffix(settings[setting], ":"+portNumber(port.Target)) {
			t.Errorf("port %s leads to %d, where nothing listens: %s is %q", port.Published, port.Target, setting, settings[setting])
		}
		ports = append(ports, port.Published+"/"+port.Protocol)
	}
	slices.Sort(ports)
	if want := []string{"53/tcp", "53/udp", "80/tcp"}; !slices.Equal(ports, want) {
		t.Errorf("published ports %v, want %v", ports, want)
	}
	if want := []string{"CMD", "/rempart", "healthcheck"}; !slices.Equal(rempart.HealthCheck.Test, want) {
		t.Errorf("health check %v, want %v", rempart.HealthCheck.Test, want)
	}
	if out, err := runProgram(t, []string{"healthcheck", "--help"}, nil); err != nil {
		t.Errorf("rempart healthcheck --help: %v\n%s", err, out)
	}
	if !strings.Contains(read(t, "deploy", "unbound", "unbound.conf"), "interface: "+strings.Replace(strings.TrimPrefix(settings["REMPART_UPSTREAMS"], "udp://"), ":", "@", 1)+"\n") {
		t.Errorf("Unbound does not listen on %s", settings["REMPART_UPSTREAMS"])
	}
	validate(t, settings, map[string]string{"/etc/rempart": filepath.Join(repository, "deploy")})
}

// TestComposeNeedsAddress checks that Compose refuses to start without the address, and says what to do.
func TestComposeNeedsAddress(t *testing.T) {
	if _, err := loadCompose(t); err == nil || !strings.Contains(err.Error(), "the file .env") {
		t.Errorf("without ADDRESS: %v", err)
	}
}
