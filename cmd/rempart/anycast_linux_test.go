package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
)

const anycastService = "198.51.100.53"

// anycastNet is a client (the namespace of the test), a router, and two servers.
type anycastNet struct {
	t   *testing.T
	dir string
}

// newNet makes namespaces by commands, one per line.
func newNet(t *testing.T, commands string) *anycastNet {
	t.Helper()
	n := &anycastNet{t: t, dir: t.TempDir()}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""); err != nil { // the names are of this test alone
		t.Fatal(err)
	}
	for _, line := range strings.Split(commands, "\n") {
		f := strings.Fields(line)
		dnstest.Command(t, f[0], f[1:]...)
	}
	return n
}

// newAnycastNet makes the namespaces and links: 10.0.0.0/24 from the client to the router, 10.0.N.0/24 from the router to server N.
func newAnycastNet(t *testing.T) *anycastNet {
	t.Helper()
	return newNet(t, `ip netns add router
ip netns add s1
ip netns add s2
ip link add client type veth peer name client netns router
ip addr add 10.0.0.2/24 dev client
ip link set client up
ip route add default via 10.0.0.1
ip -n router addr add 10.0.0.1/24 dev client
ip -n router link set client up
ip -n router link add s1 type veth peer name uplink netns s1
ip -n router link add s2 type veth peer name uplink netns s2
ip -n router addr add 10.0.1.1/24 dev s1
ip -n router addr add 10.0.2.1/24 dev s2
ip -n router link set s1 up
ip -n router link set s2 up
ip netns exec router sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1
ip -n s1 addr add 10.0.1.2/24 dev uplink
ip -n s2 addr add 10.0.2.2/24 dev uplink
ip -n s1 link set uplink up
ip -n s2 link set uplink up
ip -n s1 link set lo up
ip -n s2 link set lo up
ip -n s1 route add default via 10.0.1.1
ip -n s2 route add default via 10.0.2.1`)
}

// in returns a command in a namespace.
func (n *anycastNet) in(namespace, program string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", namespace, program}, args...)...)
}

// launch runs a program in a namespace until the end of the test.
func (n *anycastNet) launch(cmd *exec.Cmd, env ...string) *exec.Cmd {
	n.t.Helper()
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("%q wrote:\n%s", cmd.Args, said.String())
		}
	})
	return cmd
}

// bird runs BIRD in a namespace.
func (n *anycastNet) bird(namespace, config string) *exec.Cmd {
	n.t.Helper()
	path := filepath.Join(n.dir, namespace+".conf")
	write(n.t, path, config)
	return n.launch(n.in(namespace, "bird", "-f", "-c", path, "-s", filepath.Join(n.dir, namespace+".ctl"), "-P", filepath.Join(n.dir, namespace+".pid")))
}

// rempart runs Rempart as server number.
func (n *anycastNet) rempart(number int) *dnstest.Program {
	n.t.Helper()
	namespace := fmt.Sprintf("s%d", number)
	return dnstest.StartProgram(n.t, n.in(namespace, "rempart"), "REMPART_DATA_DIR="+filepath.Join(n.dir, namespace), "REMPART_LISTEN="+anycastService+":53,192.0.2.53:53", "REMPART_CLIENTS=0.0.0.0/0",
		"REMPART_LIMITS=none", "REMPART_PAGE_LISTEN=none", "REMPART_METRICS_LISTEN=none", "REMPART_UPSTREAMS=udp://10.0.0.2:1")
}

// server runs Rempart, BIRD with the shipped configuration, and the shipped check, as server number.
func (n *anycastNet) server(number int) (p *dnstest.Program, bird *exec.Cmd) {
	n.t.Helper()
	namespace := fmt.Sprintf("s%d", number)
	dir := filepath.Join(n.dir, namespace)
	p = n.rempart(number)
	config, err := os.ReadFile(filepath.Join("..", "..", "deploy", "anycast", "bird.conf"))
	if err != nil {
		n.t.Fatal(err)
	}
	bird = n.bird(namespace, strings.NewReplacer("router id 192.0.2.2;", fmt.Sprintf("router id 10.0.%d.2;", number), "ROUTER_ADDRESS = 192.0.2.1;", fmt.Sprintf("ROUTER_ADDRESS = 10.0.%d.1;", number)).Replace(string(config)))
	check, err := filepath.Abs(filepath.Join("..", "..", "deploy", "anycast", "rempart-anycast"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.launch(n.in(namespace, check, anycastService+"/32"), "REMPART_DATA_DIR="+dir)
	return p, bird
}

// routes returns the number of servers to which the router sends queries.
func (n *anycastNet) routes() int {
	out, err := n.in("router", "ip", "route", "show", anycastService).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
	return strings.Count(string(out), "via ")
}

// TestAnycastWithdrawsServer checks that a router shares queries between two servers, and that the route to a server whose Rempart is killed, or that is frozen, is withdrawn. It
// logs how many queries were lost, and for how long.
func TestAnycastWithdrawsServer(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for routes")
	}
	dnstest.Need(t, "bird")
	if !dnstest.Isolated(t) {
		return
	}
	n := newAnycastNet(t)
	n.bird("router", `router id 10.0.0.1;
protocol device {}
protocol bfd { interface "*" { interval 100 ms; multiplier 3; }; }
protocol kernel { merge paths on; ipv4 { export all; }; }
protocol bgp s1 { local as 64500; neighbor 10.0.1.2 as 64512; bfd on; error wait time 1, 2; connect delay time 1; ipv4 { import all; export none; }; }
protocol bgp s2 { local as 64500; neighbor 10.0.2.2 as 64512; bfd on; error wait time 1, 2; connect delay time 1; ipv4 { import all; export none; }; }`)
	first, _ := n.server(1)
	second, bird := n.server(2)
	dnstest.Eventually(t, "the router has routes to both servers", func() bool { return n.routes() == 2 })
	measure := func(what string, fail func(), back func()) {
		load := newDatagramLoad(t, anycastService+":53", restartLoad{queries: 12_000, rate: 2_000, query: blockedQuery})
		var took time.Duration
		load.during(func() {
			time.Sleep(time.Second)
			failed := time.Now()
			fail()
			dnstest.Eventually(t, what+": the route is withdrawn", func() bool { return n.routes() == 1 })
			took = time.Since(failed)
		})
		lost := load.lost.Load()
		t.Logf("%s: the route was withdrawn after %v; %d of %d queries were lost at %d/s", what, took.Round(10*time.Millisecond), lost, load.sent.Load(), load.load.rate)
		if lost == load.sent.Load() || lost > int64(load.load.rate)*10 {
			t.Errorf("%s: the other server did not take over", what)
		}
		back()
		dnstest.Eventually(t, what+": the route is back", func() bool { return n.routes() == 2 })
	}
	measure("Rempart killed", func() { first.Signal(t, syscall.SIGKILL) }, func() {
		first.Wait(t)
		n.rempart(1)
	})
	signal := func(sig syscall.Signal) func() {
		return func() {
			second.Signal(t, sig)
			if err := bird.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
		}
	}
	measure("server frozen", signal(syscall.SIGSTOP), signal(syscall.SIGCONT))
}

// blockedQuery appends a query for a name that is blocked without a list.
func blockedQuery(b []byte, id uint16, _ int) []byte {
	b = append(b, byte(id>>8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	return append(b, "\x08phishing\x04test\x00\x00\x01\x00\x01"...)
}

// TestKeepalivedMovesAddress checks that the second of two servers takes the address of the first one when its Rempart is killed, with the shipped configuration.
func TestKeepalivedMovesAddress(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for keepalived")
	}
	dnstest.Need(t, "keepalived")
	if !dnstest.Isolated(t) {
		return
	}
	n := newNet(t, `ip netns add s1
ip netns add s2
ip link add lan type bridge
ip link set lan up
ip addr add 192.0.2.1/24 dev lan
ip link add s1 master lan type veth peer name eth0 netns s1
ip link add s2 master lan type veth peer name eth0 netns s2
ip link set s1 up
ip link set s2 up
ip -n s1 addr add 192.0.2.11/24 dev eth0
ip -n s2 addr add 192.0.2.12/24 dev eth0
ip -n s1 link set eth0 up
ip -n s2 link set eth0 up
ip -n s1 link set lo up
ip -n s2 link set lo up`)
	config, err := os.ReadFile(filepath.Join("..", "..", "deploy", "anycast", "keepalived.conf"))
	if err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath("rempart")
	if err != nil {
		t.Fatal(err)
	}
	var servers []*dnstest.Program
	for i, priority := range []string{"150", "100"} {
		servers = append(servers, n.rempart(i+1))
		namespace := fmt.Sprintf("s%d", i+1)
		check := filepath.Join(n.dir, namespace+".sh") // with the variables that the packages need not set
		write(t, check, "#!/bin/sh", "REMPART_DATA_DIR="+filepath.Join(n.dir, namespace)+" exec "+program+" healthcheck")
		if err := os.Chmod(check, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(n.dir, namespace+".conf")
		write(t, path, strings.NewReplacer("/usr/bin/rempart healthcheck", check, "priority 150", "priority "+priority, "enable_script_security", "").Replace(string(config)))
		n.launch(n.in(namespace, "keepalived", "-n", "-l", "-f", path, "-p", path+".pid", "-r", path+".vrrp"))
		if i == 0 {
			dnstest.Eventually(t, "the first server has the address", func() bool { return n.hasAddress("s1") })
		}
	}
	load := newDatagramLoad(t, "192.0.2.53:53", restartLoad{queries: 12_000, rate: 2_000, query: blockedQuery})
	var took time.Duration
	load.during(func() {
		time.Sleep(time.Second)
		failed := time.Now()
		servers[0].Signal(t, syscall.SIGKILL)
		servers[0].Wait(t)
		dnstest.Eventually(t, "the second server has the address", func() bool { return n.hasAddress("s2") })
		took = time.Since(failed)
	})
	t.Logf("the address moved after %v; %d of %d queries were lost at %d/s", took.Round(10*time.Millisecond), load.lost.Load(), load.sent.Load(), load.load.rate)
	if load.lost.Load() > load.sent.Load()*9/10 {
		t.Error("the second server did not take over")
	}
}

// hasAddress reports whether a server has the address of keepalived.conf.
func (n *anycastNet) hasAddress(namespace string) bool {
	out, err := n.in(namespace, "ip", "address", "show", "dev", "eth0").CombinedOutput()
	return err == nil && strings.Contains(string(out), "192.0.2.53/")
}
