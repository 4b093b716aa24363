// Package upstream exchanges questions with the resolvers Rempart forwards to: over UDP
// (TCP on truncation), TCP and TLS, with health learned from traffic, failover inside one
// client's patience, hedging, and a refusal of upstreams that lead back to this process.
package upstream
