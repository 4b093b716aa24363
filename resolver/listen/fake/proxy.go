package fake

import "net/netip"

// ProxySignature begins every header of the PROXY protocol, version 2.
const ProxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// ProxyHeader returns a header of the PROXY protocol, version 2, for a client, or for the proxy itself if client is not valid.
func ProxyHeader(client, local netip.AddrPort, extra string) []byte {
	command, family, data := byte(0x20), byte(0), []byte(nil)
	if client.IsValid() {
		command, family = 0x21, 0x11
		if client.Addr().Is6() {
			family = 0x21
		}
		data = append(client.Addr().AsSlice(), local.Addr().AsSlice()...)
		data = append(data, byte(client.Port()>>8), byte(client.Port()), byte(local.Port()>>8), byte(local.Port()))
	}
	data = append(data, extra...)
	return append([]byte(ProxySignature), append([]byte{command, family, byte(len(data) >> 8), byte(len(data))}, data...)...)
}
