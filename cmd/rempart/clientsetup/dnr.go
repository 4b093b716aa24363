package clientsetup

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"rempart/internal/wire"
)

// The codes of the options by which DHCP announces encrypted resolvers (RFC 9463 sections 4.1 and 5.1).
const (
	optionV6DNR = 144
	optionV4DNR = 162
)

// maxOption is the largest length of a DHCPv4 option, in bytes (RFC 2132 section 2).
const maxOption = 255

// transports returns the parameters of each transport, in the order in which clients should prefer them.
func (s *Service) transports() (all []wire.ServiceParams) {
	if s.TLSPort != 0 {
		all = append(all, wire.ParamsOf(wire.TLS, s.TLSPort))
	}
	if s.HTTPSPort != 0 {
		all = append(all, wire.ParamsOf(wire.HTTPS, s.HTTPSPort))
	}
	return all
}

// addresses returns the addresses of one family, packed.
func (s *Service) addresses(ipv4 bool) (packed []byte) {
	for _, addr := range s.Addrs {
		if addr.Is4() == ipv4 {
			packed = append(packed, addr.AsSlice()...)
		}
	}
	return packed
}

// dnr4 returns the data of the DHCPv4 option: an instance for each transport, as long as they fit.
func (s *Service) dnr4() (data []byte, err error) {
	name, addrs, err := s.designation(true)
	if err != nil {
		return nil, err
	}
	for i, params := range s.transports() {
		instance := binary.BigEndian.AppendUint16(nil, uint16(i+1)) // the priority
		instance = append(append(instance, byte(len(name))), name...)
		instance = append(append(instance, byte(len(addrs))), addrs...)
		instance = params.Append(instance)
		if len(data)+2+len(instance) > maxOption {
			break
		}
		data = append(binary.BigEndian.AppendUint16(data, uint16(len(instance))), instance...)
	}
	if data == nil {
		return nil, fmt.Errorf("the name %s and %d addresses do not fit a DHCPv4 option: name fewer with --address", s.Name, len(s.Addrs))
	}
	return data, nil
}

// dnr6 returns the data of the DHCPv6 option for the most preferred transport. Each option holds one transport, and dnsmasq 2.90 and Kea 2.2 send one option of
// each code: of several, dnsmasq sends the first and Kea the last.
func (s *Service) dnr6() (data []byte, err error) {
	name, addrs, err := s.designation(false)
	if err != nil {
		return nil, err
	}
	data = binary.BigEndian.AppendUint16(nil, 1) // the priority
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(name))), name...)
	data = append(binary.BigEndian.AppendUint16(data, uint16(len(addrs))), addrs...)
	preferred := s.transports()[0]
	return preferred.Append(data), nil
}

// designation returns the parts that all instances share: the name, in wire format, and the addresses of one family.
func (s *Service) designation(ipv4 bool) (name, addrs []byte, err error) {
	if s.TLSPort == 0 && s.HTTPSPort == 0 {
		return nil, nil, noTLS
	}
	if addrs = s.addresses(ipv4); len(addrs) == 0 && ipv4 {
		return nil, nil, Missing("it needs an IPv4 address of this server: add --address")
	} else if len(addrs) == 0 {
		return nil, nil, Missing("it needs an IPv6 address of this server: add --address")
	}
	name, err = wire.AppendName(nil, s.Name)
	return name, addrs, err
}

// dnrDnsmasq returns the options for dnsmasq.
func dnrDnsmasq(s *Service) (string, error) {
	var b strings.Builder
	four, err := s.dnr4()
	if err == nil {
		fmt.Fprintf(&b, "dhcp-option=%d,%s\n", optionV4DNR, colons(four))
	}
	six, err6 := s.dnr6()
	if err6 == nil {
		fmt.Fprintf(&b, "dhcp-option=option6:%d,%s\n", optionV6DNR, colons(six))
	}
	if b.Len() == 0 {
		return "", err
	}
	return b.String(), nil
}

// colons returns data in hexadecimal digits with a colon between two bytes, as dnsmasq reads it.
func colons(data []byte) string {
	var parts []string
	for _, c := range data {
		parts = append(parts, hex.EncodeToString([]byte{c}))
	}
	return strings.Join(parts, ":")
}

// dnrKea4 returns the option for Kea's DHCPv4 server. Without a definition of the option, data is accepted by versions that know its name and by those that do not.
func dnrKea4(s *Service) (string, error) {
	data, err := s.dnr4()
	if err != nil {
		return "", err
	}
	return keaOption(optionV4DNR, "dhcp4", data) + "\n", nil
}

// dnrKea6 returns the option for Kea's DHCPv6 server.
func dnrKea6(s *Service) (string, error) {
	data, err := s.dnr6()
	if err != nil {
		return "", err
	}
	return keaOption(optionV6DNR, "dhcp6", data) + "\n", nil
}

func keaOption(code int, space string, data []byte) string {
	return fmt.Sprintf(`{ "code": %d, "space": "%s", "csv-format": false, "data": "%s" }`, code, space, strings.ToUpper(hex.EncodeToString(data)))
}
