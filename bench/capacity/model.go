package main

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// costs are what one query and one object cost. They are measured: see costs.json.
type costs struct {
	Measured string `json:"measured"` // when, on what, and by which commands

	// CPU time per query over UDP.
	Hit   duration `json:"hit"`
	Block duration `json:"block"`
	Miss  duration `json:"miss"`

	Mixed float64 `json:"mixed"` // CPU time of a mixture, relative to the sum of its parts
	Cores float64 `json:"cores"` // CPU time per query on several cores, relative to one

	// CPU time per query over a kept connection, answered from the cache or blocked.
	Kept map[string]duration `json:"kept"` // by transport: tls, https, h3, quic

	Handshake duration `json:"handshake"` // CPU time of one TLS handshake

	BytesPerName       float64 `json:"bytes_per_name"`       // of the set
	BytesPerAnswer     float64 `json:"bytes_per_answer"`     // of the cache
	BytesPerConnection float64 `json:"bytes_per_connection"` // idle, over TLS
	ProcessBytes       float64 `json:"process_bytes"`        // without the pages of the set that queries read, and without a cache
	BytesPerQuery      float64 `json:"bytes_per_query"`      // on the wire, query and answer with their headers, mean
}

// duration is a time in JSON as "8.4µs".
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

func (d duration) seconds() float64 { return time.Duration(d).Seconds() }

// demand is the load that subscribers make, and the failures that the plan must tolerate.
type demand struct {
	lines       float64            // subscribers
	perLine     float64            // queries per second of one line, mean over a day
	peak        float64            // times the mean, in the busiest minute
	hit, block  float64            // shares of the queries; the rest are misses
	transports  map[string]float64 // share of the queries by transport; the rest is UDP
	perConn     float64            // queries on one encrypted connection before it is closed
	connections float64            // open encrypted connections per line that uses one
	names       float64            // of the set
	cached      float64            // answers in the cache of one machine

	cores    float64 // of a machine
	load     float64 // share of the cores that may be busy in the peak
	sites    int     // where the machines are
	failures int     // machines that may fail at a time; if there are several sites, one whole site may fail as well
}

// plan is the number of machines that a demand needs, and the load of each.
type plan struct {
	mean, peak     float64       // queries per second
	perQuery       time.Duration // CPU time, mean
	cores          float64       // busy in the peak, over all machines
	machines       int
	perMachine     float64 // queries per second in the peak, if no machine has failed
	handshakes     float64 // per second in the peak, over all machines
	connections    float64 // open in the peak on one machine, when the tolerated failures have happened
	memory         float64 // bytes of one machine
	bitsPerMachine float64 // network in the peak, both directions
}

var errShares = errors.New("shares must be from 0 to 1, and together at most 1")

// compute returns the plan of a demand.
func compute(c *costs, d *demand) (*plan, error) {
	if err := d.check(c); err != nil {
		return nil, err
	}
	p := &plan{mean: d.lines * d.perLine}
	p.peak = p.mean * d.peak
	encrypted := 0.0
	for _, share := range d.transports {
		encrypted += share
	}
	seconds := (d.perQuerySeconds(c) + encrypted/d.perConn*c.Handshake.seconds()) * c.Mixed
	if d.cores > 1 {
		seconds *= c.Cores
	}
	p.perQuery = time.Duration(seconds * float64(time.Second))
	p.cores = p.peak * seconds
	p.handshakes = p.peak * encrypted / d.perConn
	needed := math.Ceil(p.cores / d.load / d.cores) // machines that bear the peak
	p.machines = int(needed) + d.failures
	if d.sites > 1 { // the others bear the peak without one site
		perSite := math.Ceil(needed / float64(d.sites-1))
		p.machines = max(p.machines, int(perSite)*d.sites)
	}
	p.perMachine = p.peak / float64(p.machines)
	p.connections = d.lines * encrypted * d.connections / needed
	// A new set is compiled beside the one in force.
	p.memory = c.ProcessBytes + 2*d.names*c.BytesPerName + d.cached*c.BytesPerAnswer + p.connections*c.BytesPerConnection
	p.bitsPerMachine = 8 * c.BytesPerQuery * p.peak / needed
	return p, nil
}

// perQuerySeconds returns the mean CPU time of a query, without handshakes. What a miss costs more than a hit does not depend on the transport of its client.
func (d *demand) perQuerySeconds(c *costs) float64 {
	miss := 1 - d.hit - d.block
	udp, total := 1.0, miss*(c.Miss.seconds()-c.Hit.seconds())
	for t, share := range d.transports {
		udp -= share
		total += share * c.Kept[t].seconds()
	}
	return total + udp*((d.hit+miss)*c.Hit.seconds()+d.block*c.Block.seconds())
}

func (d *demand) check(c *costs) error {
	sum := 0.0
	for t, share := range d.transports {
		if _, ok := c.Kept[t]; !ok {
			return fmt.Errorf("the transport %q was not measured", t)
		}
		if share < 0 {
			return errShares
		}
		sum += share
	}
	if sum > 1 || d.hit < 0 || d.block < 0 || d.hit+d.block > 1 {
		return errShares
	}
	if d.lines <= 0 || d.perLine <= 0 || d.peak < 1 || d.perConn < 1 || d.cores < 1 || d.load <= 0 || d.load > 1 || d.sites < 1 || d.failures < 0 {
		return errors.New("lines and queries must be above 0, the peak and queries per connection at least 1, cores and sites at least 1, the load from above 0 to 1")
	}
	return nil
}
