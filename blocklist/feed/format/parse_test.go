package format

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch/fetchtest"
)

// transcript is a Sink that records as text what it receives: "example.com" for a subtree, "=" before an
// exact name, "*." before what is below one, "@" before an exception, "+" before an allow,
// "-" before a cancellation, "!" before a refusal.
type transcript struct {
	t     *testing.T
	lines []string
}

func scoped(name []byte, scope blocklist.Scope) string {
	return map[blocklist.Scope]string{blocklist.Exact: "=", blocklist.Below: "*.", blocklist.Subtree: ""}[scope] + blocklist.NameText(name)
}

func (s *transcript) Add(_ int, l blocklist.Listing) {
	if l.Prefix.IsValid() {
		checkPrefix(s.t, l)
		s.lines = append(s.lines, l.Prefix.String())
		return
	}
	checkName(s.t, l.Name)
	mark := map[blocklist.Decision]string{blocklist.Block: "", blocklist.Except: "@", blocklist.Allow: "+"}[l.Decision]
	s.lines = append(s.lines, mark+scoped(l.Name, l.Scope))
}

func (s *transcript) Cancel(_ int, name []byte, scope blocklist.Scope) {
	checkName(s.t, name)
	s.lines = append(s.lines, "-"+scoped(name, scope))
}

func (s *transcript) Refuse(_ int, why Reason) { s.lines = append(s.lines, "!"+why.String()) }

// checkPrefix fails t if a listing of addresses has a name, or if its addresses may not be blocked.
func checkPrefix(t testing.TB, l blocklist.Listing) {
	t.Helper()
	least := minBits4
	if l.Prefix.Addr().Is6() {
		least = minBits6
	}
	if l.Name != nil || l.Prefix != l.Prefix.Masked() || l.Prefix.Bits() < least || !isGlobal(l.Prefix) {
		t.Errorf("listing of addresses %v, name %q", l.Prefix, l.Name)
	}
}

func read(t *testing.T, list string) []string {
	t.Helper()
	return readAs(t, Options{}, list)
}

func readAs(t *testing.T, opt Options, list string) []string {
	t.Helper()
	s := &transcript{t: t}
	if _, err := Parse(strings.NewReader(list), opt, s); err != nil && !errors.Is(err, ErrNotAList) {
		t.Errorf("Parse(%.60q): %v", list, err)
	}
	return s.lines
}

// Lines marked with a file are verbatim from the list of that name.
func TestLines(t *testing.T) {
	tests := []struct{ line, want string }{
		// Lines without a listing.
		{"", ""},
		{"   \t", ""},
		{"# comment", ""},
		{"#example.com", ""},
		{"! Title: list", ""},
		{"; abuse.ch URLhaus Response Policy Zones (RPZ)", ""},
		{"// comment", ""},
		{"[Adblock Plus 3.13]", ""}, // dandelion-antimalware
		{"[uBlock Origin]", ""},
		{"=====================================================================================================", ""}, // shadowwhisperer
		{"=== Section", ""},
		{"-----", ""},
		{"################################################################", ""},

		// Names.
		{"example.com", "example.com"},
		{"EXAMPLE.com.", "example.com"},
		{"asu12.store.", "asu12.store"},                     // blackbook
		{" mozila123.duckdns.org", "mozila123.duckdns.org"}, // blackbook
		{"verefication.com  ", "verefication.com"},          // phishing-database
		{"discörd.com", "xn--discrd-zxa.com"},               // discord-phishing
		{"12d60.firebaseio.com", "12d60.firebaseio.com"},    // assoechap-stalkerware, its hosts file
		{"hxxp.com", "hxxp.com"},                            // a real name
		{"hxxpkqafxdimgmf.su", "hxxpkqafxdimgmf.su"},        // another real name
		{"___id___.c.mystat-in.net", "___id___.c.mystat-in.net"},
		{"darkforums.st                                    #Forum", "darkforums.st"}, // shadowwhisperer
		{"xn--bbautkozmetika-pob.hu    # was: bbautókozmetika.hu", "xn--bbautkozmetika-pob.hu"},
		{"example.com ; comment", "example.com"},
		{"example.com // comment", "example.com"},
		{"example.com#comment", "example.com"},
		{"example.com;comment, and more", "example.com"},
		{"*.example.com#comment", "example.com"},
		{"evil[.]example.com#comment", "evil.example.com"},
		{"||example.com^#comment", "example.com"},
		{"0.0.0.0 a.example b.example#x", "=a.example =b.example"},
		{"0.0.0.0 a.example#x b.example", "=a.example"},
		{"127.0.0.1 #a.example", "!address"},
		{"address=/example.com/#", "example.com"},
		{"*.000037.cc", "000037.cc"}, // ph00lt0: this form also covers the name itself
		{".example.com", "example.com"},
		{"evil[.]example[.]com", "evil.example.com"},

		// Not names.
		{"C91.196.152.28 # probe.onyphe.net", "!address"}, // maltrail
		{"0000153.0000255.0000011.0000125", "!address"},   // romainmarcoux
		{"c67f045c2f.ipv6.1433", "!address"},              // romainmarcoux
		{"182.86.133:8880", "!address"},                   // maltrail
		{"1.109.105.144", "!address"},
		{"5.63.151.0/24 # scanners.labs.rapid7.com", "!address"}, // maltrail
		{"51.210.1.239:8443", "!address"},
		{"2a01:4f8::2", "!address"},
		{"[2600:1f18:43d1:2a02:169f:dcbb:85f9:3c56]", "!address"}, // dandelion-antimalware
		{"://[2604:2dc0:100:4ed8::]", "!address"},                 // dandelion-antimalware
		{".bazar", "!single-label"},                               // accomplist
		{"fe", "!single-label"},
		{"dhl-commx.", "!single-label"}, // dandelion-antimalware
		{"ಭಾರತ", "!single-label"},       // accomplist
		{"xn--kr.com", "!punycode"},
		{"lockbitapt280e8defa5377018b093b5b90de0f2957f7062144c83a09a56bba1fe4eda932ce.onion", "!too-long"}, // maltrail
		{`q(l|r)[0-9]{5,6}\.pw`, "!regex"}, // maltrail
		{"name@example.com", "!not-a-name"},
		{"exa\x00mple.com", "!not-a-name"},
		{"a.com b.com", "!unknown-form"},
		{"404 Not Found", "!unknown-form"},
		{"domain,copy9.com,TheTruthSpy", "!unknown-form"}, // assoechap-stalkerware
		{`"example.com",`, "!unknown-form"},
		{`zone "fe" { type master; notify no; file "null.zone.file"; };`, "!unknown-form"},
		{"*", "!wildcard-inside"},
		{"a*.example.com", "!wildcard-inside"},
		{"*.*.example.com", "!wildcard-inside"},

		// URLs, hosts with ports.
		{"http://example.com", "=example.com"},
		{"HTTPS://Example.com:8443/", "=example.com"},
		{"http://alinmaagroup.com/mbv58gbv ", "!url-path"}, // hacked-malware-sites
		{"https://github.com/karma9874/AndroRAT", "!url-path"},
		{"http://example.com/?q", "!url-path"},
		{"http://example.com#x", "!url-path"},
		{"http://user@example.com/", "!not-a-name"},
		{"http://194.31.98.124:443/i", "!address"}, // orange-cyberdefense
		{"hxxps://bimtekintelegensia[.]com/a1f9lw[.]txt", "!url-path"},
		{"hxxp://evil[.]example.com/", "=evil.example.com"},
		{"mailto://example.com", "!unknown-form"},
		{"bit.ly/2zo2ibr", "!url-path"},
		{"0001-5cf.pages.dev/ar/about/privacy", "!url-path"}, // ut1-toulouse
		{"example.com/", "=example.com"},
		{"example.com:8080", "=example.com"},
		{"example.com:123456", "!unknown-form"},
		{"40.70.42.104?rid=8i4dr5f", "!url-path"}, // phishing-database
		{"/wp-admin/install.exe", "!url-path"},
		{"/Consulta FGTS.js", "!url-path"}, // maltrail
		{"/00O0o0O0o0O0o0O0o0o0000o0Oo0o0o00O00000o000000##############00000000##############00000000000.doc", "!url-path"}, // maltrail
		{"*://*.004l.com/*", "!wildcard-inside"}, // globalantiscam

		// Hosts files.
		{"0.0.0.0 example.com", "=example.com"},
		{"127.0.0.1\t1home.az", "=1home.az"}, // urlhaus
		{"0 example.com", "=example.com"},
		{"::1 a.example b.example\tc.example # three", "=a.example =b.example =c.example"},
		{"0.0.0.0 commerzbank.de-c5h1.info ", "=commerzbank.de-c5h1.info"}, // th3m3
		{"127.0.0.1 localhost #[IPv4]", "!local-name"},                     // hacked-malware-sites
		{"::1 localhost #[IPv6]", "!local-name"},                           // hacked-malware-sites
		{"127.0.0.1 localhost.localdomain", "!local-name"},
		{"fe80::1%lo0 localhost", "!local-name"},         // adguard-urlfilter
		{"255.255.255.255 broadcasthost", "!local-name"}, // adguard-urlfilter
		{"ff00::0 ip6-mcastprefix", "!local-name"},
		{"ff02::1 ip6-allnodes", "!local-name"},
		{"0.0.0.0 0.0.0.0", "!address"},           // adguard-urlfilter
		{"127.0.0.1 109.201.135.46", "!address"},  // dandelion-antimalware
		{"0.0.0.0 inf", "!single-label"},          // kadhosts
		{"127.0.0.1 dhl-commx.", "!single-label"}, // dandelion-antimalware
		{"0.0.0.0 /wp-admin/install.exe|", "!url-path"},
		{"0.0.0.0 .xyz/1sm/9.html?*&campaign_id=", "!url-path"},
		{"0.0.0.0 *.example.com", "!wildcard-inside"},
		{"0.0.0.0 sfdao.ga14pwy4pfrhp8xeqhdbnxkcnl.php?rand=13InboxLight", "!url-path"}, // hacked-malware-sites, cut
		{"192.168.1.10 nas.example.com", "@=nas.example.com !redirect"},
		{"192.0.2.0/24 nas.example.com", "!redirect"},

		// Adblock rules.
		{"||10xcryptotrade.uk^", "10xcryptotrade.uk"}, // hagezi
		{"||philadelphia_cbslocal.us.intellitxt.com^", "philadelphia_cbslocal.us.intellitxt.com"},
		{"||verifications-support.com  ^", "verifications-support.com"}, // phishing-database
		{"||1.黑貓宅配.top^", "1.xn--09s945i07cm1q.top"},                    // globalantiscam
		{"||00payment.com^$all", "00payment.com"},                       // globalantiscam
		{"||example.com^$important,document", "example.com"},
		{"||*.example.com^", "*.example.com"},
		{"@@||7eer.net^", "@7eer.net"}, // hagezi
		{"@@||*.example.com^$important", "@*.example.com"},
		{"||amazonaws.com^$badfilter", "-amazonaws.com"},                                 // dandelion-antimalware
		{"||amazonaws.com^$all,badfilter", "-amazonaws.com"},                             // dandelion-antimalware
		{"||amazonaws.com^$popup,badfilter", "!modifier"},                                // dandelion-antimalware: the rule it repeats was refused
		{`||chip.de^$badfilter  # garbage "news" website$third-party`, "-chip.de"},       // ph00lt0
		{"@||fonts.gstatic.com^$badfilter", "!modifier"},                                 // ph00lt0
		{"||*vod-adaptive.akamaized.net^$badfilter # not a tracker", "!wildcard-inside"}, // ph00lt0
		{"@@||example.com^$badfilter", "!modifier"},
		{"||inside3d.com^$popup", "!modifier"},    // dandelion-antimalware
		{"||xss.my.id^$third-party", "!modifier"}, // dandelion-antimalware
		{"||offerimage.com^$domain=tii.la", "!modifier"},
		{"||facebook.com^$removeparam=cid", "!modifier"},
		{"||img.baodan.xyz^$image", "!modifier"},
		{"||5starhdporn.com^$frame,third-party", "!modifier"},                                               // dandelion-antimalware
		{"@@||socialize.eu1.gigya.com^$xhr,domain=videoland.com # unbreak videoland", "!inexact-exception"}, // ph00lt0
		{"||*.top^$dnstype=~CNAME,denyallow=caitlin.top|corriente.top", "!modifier"},                        // dandelion-antimalware, cut
		{"||top^$domain=~caitlin.top", "!modifier"},
		{"||loan^", "!single-label"}, // dandelion-antimalware
		{"||*.loan^", "!single-label"},
		{"*$removeparam=AID", "!modifier"}, // ph00lt0
		{"$csp=upgrade-insecure-requests,domain=apache.org", "!modifier"},
		{"||newntflix-", "!pattern"},         // dandelion-antimalware
		{"||example.com", "!pattern"},        // a prefix: example.com.evil.example too
		{"||avito.avito.avito.", "!pattern"}, // scamblocklist
		{"||ddscordapp.$all,domain=~fake-malware-version-of-discordapp.com", "!pattern"},
		{"|http://ww01.$domain=~often_used.*", "!pattern"},
		{"://ups-dk.$denyallow=dk|nu", "!unknown-form"},
		{"||example.com:8080^", "!pattern"},
		{"|http://example.com^", "!pattern"},
		{"|example.com", "!pattern"},

		// The ends of a pattern, as lists for DNS mark them.
		{"||example.com^|", "example.com"},
		{"||example.com|", "example.com"},
		{"|example.com^", "=example.com"},
		{"|example.com^|", "=example.com"},
		{"|example.com|", "=example.com"},
		{"|example.com^$important", "=example.com"},
		{"||example.com^|$badfilter", "-example.com"},
		{"@@||example.com^|", "@example.com"},
		{"@@|example.com^", "@=example.com"},
		{"@@|example.com^|", "@=example.com"},
		{"@@||example.com^|$important", "@example.com"},

		// Exceptions that are not only for a host.
		{"@@||example.com", "@example.com !inexact-exception"},
		{"@@|example.com", "@=example.com !inexact-exception"},
		{"@@example.com", "@example.com !inexact-exception"},
		{"@@example.com^", "@example.com !inexact-exception"},
		{"@@*.example.com^", "@*.example.com !inexact-exception"},
		{"@@|https://example.com^", "@=example.com !inexact-exception"},
		{"@@||https://example.com/", "@=example.com !inexact-exception"},
		{"@@||example.com/page", "!inexact-exception"},
		{"@@||example.com^*", "@example.com !inexact-exception"},
		{"@@||example.com*", "@example.com !inexact-exception"},
		{"@@||example.com/", "@example.com !inexact-exception"},
		{"@@||example.com/*", "@example.com !inexact-exception"},
		{"@@*example.com*", "@example.com !inexact-exception"},
		{"@@.example.com^", "@example.com !inexact-exception"},
		{"@@//example.com^", "@example.com !inexact-exception"},
		{"@@|https://example.com/*", "@=example.com !inexact-exception"},
		{"@@||example.com:443^", "@example.com !inexact-exception"},
		{"@@|http://example.com:8080/", "@=example.com !inexact-exception"},
		{"@@||example[.]com^", "@example.com !inexact-exception"},
		{"@@||example.com^$generichide", "@example.com !inexact-exception"},
		{"@@||example.com^$elemhide,important", "@example.com !inexact-exception"},
		{"@@0.0.0.0 example.com", "@=example.com !inexact-exception"},
		{"@@127.0.0.1 example.com www.example.com", "@=example.com @=www.example.com !inexact-exception"},
		{"||example.com^$generichide", "!modifier"},
		{"@@||exa*mple.com^", "!inexact-exception"},
		{"@@/example.com/", "!inexact-exception"},
		{"server=/*.example.com/#", "!inexact-exception @example.com"},
		{"server=/*example.com/#", "!inexact-exception @example.com"},
		{"address=/*.example.com/", "example.com"},
		{"@@|https://example.com/page", "!inexact-exception"},
		{"@@||example.com^$client=192.0.2.1", "!inexact-exception"},
		{"@@||example.com^$dnstype=AAAA", "!inexact-exception"},
		{"@@||example.com^$dnsrewrite", "@example.com"},
		{"@@||example.com^$dnsrewrite=192.0.2.1", "!inexact-exception"},
		{"@@||example.com^$denyallow=a.example.com", "!inexact-exception"},
		{"@@||192.0.2.1^", "!inexact-exception"},
		{"@@", "!inexact-exception"},
		{"@@||^", "!inexact-exception"},

		// Modifiers of lists for DNS.
		{"||example.com^$denyallow=a.example.com|b.example.com", "example.com @a.example.com @b.example.com"},
		{"||example.com^$denyallow=example.com|other.example|notexample.com|A.EXAMPLE.com", "example.com @a.example.com"},
		{"||example.com^$dnsrewrite=NXDOMAIN", "example.com"},
		{"||example.com^$dnsrewrite=REFUSED;;", "example.com"},
		{"||example.com^$dnsrewrite=NOERROR", "example.com"},
		{"||example.com^$dnsrewrite=NOERROR;A;0.0.0.0,important", "example.com"},
		{"||example.com^$dnsrewrite=0.0.0.0", "example.com"},
		{"||example.com^$dnsrewrite=192.0.2.1", "@example.com !redirect"},
		{"||example.com^$dnsrewrite=NOERROR;CNAME;other.example", "@example.com !redirect"},
		{"||example.com^$dnsrewrite=192.0.2.1,badfilter", "!modifier"},
		{"||example.com^$dnstype=AAAA", "!modifier"},
		{"||example.com^$client=192.0.2.1", "!modifier"},
		{"example.com^", "!pattern"},
		{"||discord-promo*", "!wildcard-inside"},
		{"||yandex.avito.sber*", "!wildcard-inside"}, // scamblocklist
		{"||steamcommin*$denyallow=likely-a-fake-malware-version-of-steamcommunity.com", "!wildcard-inside"},
		{"||att-verification-*.webflow.io^", "!wildcard-inside"}, // iam-py-test
		{"||example.com^*", "!wildcard-inside"},
		{"@@||masto*.top^", "!inexact-exception"}, // dandelion-antimalware
		{".com-id*.info^", "!wildcard-inside"},    // scamblocklist
		{"||iplogger.org/2Acru6^", "!url-path"},
		{"||majorgeeks.com/images/icons/red_icon_18x17px.png$image", "!url-path"}, // dandelion-antimalware
		{"||^*/ads*.js^^", "!url-path"},                                           // ph00lt0
		{"|1.0.164.165^", "!address"},                                             // accomplist
		{"||109.201.135.46^", "!address"},
		{"||204.44.92.187", "!address"},
		{"||redacted@redacted.invalid^", "!not-a-name"}, // phishing-database
		{`@@/^.*(tech|project|linux).*\.top(/[a-z0-9_-]?.*)?$/`, "!inexact-exception"},
		{`/^ads[0-9]+\.example\.com$/`, "!regex"},
		{`/banner[0-9]+/$third-party`, "!regex"},
		{"/adx_iframe_$third-party", "!url-path"}, // dandelion-antimalware
		{"example.com##.ad", "!cosmetic"},
		{"example.com##div:not(.x) > p", "!cosmetic"},
		{"example.com#@#.ad", "!cosmetic"},
		{"||example.com##.ad", "!cosmetic"},

		// dnsmasq and unbound.
		{"address=/10xcryptotrade.uk/#", "10xcryptotrade.uk"}, // hagezi
		{"address=/a.example/b.example/0.0.0.0", "a.example b.example"},
		{"address=/.example.com/", "example.com"},
		{"server=/s.sh/", "s.sh"}, // oznu-bind-zones
		{"local=/example.com/", "example.com"},
		{"server=/fe/", "!single-label"}, // oznu-bind-zones
		{"server=/example.com/192.0.2.1", "@example.com !redirect"},
		{"server=/example.com/192.0.2.1#5353", "@example.com !redirect"},
		{"local=/a.example/#", "@a.example"},
		{"server=/a.example/b.example/#", "@a.example @b.example"},
		{"address=/example.com/192.0.2.1", "@example.com !redirect"},
		{"address=/#/", "!not-a-name"},
		{"address=/example.com", "!unknown-form"},
		{"server:", ""},
		{`local-zone: "11trikots.com." always_null`, "11trikots.com"}, // hagezi
		{`local-zone: example.com redirect`, "example.com"},
		{`local-zone:"example.com" static`, "example.com"},
		{`local-zone: "fe" always_nxdomain`, "!single-label"}, // oznu-bind-zones
		{`local-zone: "example.com" transparent`, "@example.com"},
		{`local-zone: example.com. typetransparent`, "@example.com"},
		{`local-zone: "example.com" unheard_of`, "!unknown-form"},
		{`local-zone: "example.com"`, "!unknown-form"},
		{`local-data: "example.com A 0.0.0.0"`, "=example.com"},
		{`local-data: 'example.com. 3600 IN AAAA ::'`, "=example.com"},
		{`local-data: "example.com IN 3600 A 192.0.2.1"`, "!redirect"},
		{`local-data: "example.com TXT hello"`, "!unknown-form"},
		{`local-data: "example.com A"`, "!unknown-form"},
		{`local-data:`, "!unknown-form"},

		// Policy zones.
		{"000037.cc CNAME .", "=000037.cc"}, // ph00lt0
		{"*.s.sh CNAME .", "*.s.sh"},        // oznu-bind-zones
		{"1008691.com CNAME . ; Malware download (2020-10-21), see https://urlhaus.abuse.ch/host/1008691.com/", "=1008691.com"}, // urlhaus
		{"example.com. 300 IN CNAME *.", "=example.com"},
		{"example.com IN 1h cname rpz-drop.", "=example.com"},
		{"example.com A 192.0.2.1", "@=example.com !redirect"},
		{"example.com CNAME .;glued", "=example.com"},
		{"example.com AAAA ::", "=example.com"},
		{"example.com A 0.0.0.0", "=example.com"},
		{"example.com CNAME rpz-passthru.", "@=example.com"},
		{"*.example.com CNAME rpz-passthru.", "@*.example.com"},
		{"example.com CNAME example.com.", "@=example.com"},
		{"example.com CNAME rpz-tcp-only.", "@=example.com !redirect"},
		{"*.example.com CNAME walled-garden.example.", "@*.example.com !redirect"},
		{"www.google.com CNAME forcesafesearch.google.com.", "@=www.google.com !redirect"},
		{"24.0.2.0.192.rpz-ip CNAME .", "!not-global"},
		{"ns.example.com.rpz-nsdname CNAME .", "!rpz-trigger"},
		{"24.0.2.0.192.rpz-client-ip CNAME rpz-drop.", "!rpz-trigger"},
		{"*.fe CNAME .", "!single-label"}, // oznu-bind-zones
		{"* IN A 0.0.0.0", "!wildcard-inside"},
		{"@ CNAME .", "!not-a-name"},
		{"  CNAME .", "!unknown-form"},
		{"example.com TXT \"why\"", ""},
		{"example.com A page", "!unknown-form"},
	}
	for _, tt := range tests {
		for _, end := range []string{"", "\n", "\r\n", "\r"} {
			if got := strings.Join(read(t, tt.line+end), " "); got != tt.want {
				t.Errorf("%q\n got %s\nwant %s", tt.line+end, got, tt.want)
			}
		}
	}
}

func TestLists(t *testing.T) {
	tests := []struct {
		name, list string
		want       []string
	}{
		{"mixed", "# hosts\n0.0.0.0 a.example\n||b.example^\nc.example\n", []string{"=a.example", "b.example", "c.example"}},
		{"byte order mark", "\ufeffa.example\n", []string{"a.example"}},
		{"byte order mark and header", "\ufeff[Adblock Plus 3.13]\n||a.example^", []string{"a.example"}},
		{"bare CR", "a.example\rb.example\r\rc.example", []string{"a.example", "b.example", "c.example"}},
		{"a comment ends at a bare CR", "# x\ra.example", []string{"a.example"}},
		{"overlong line", "a.example\n" + strings.Repeat("x", 3*MaxLine) + "\nb.example", []string{"a.example", "!line-too-long", "b.example"}},
		{"overlong last line", "a.example\n" + strings.Repeat("x", MaxLine), []string{"a.example", "!line-too-long"}},
		{
			"zone without an origin", // urlhaus
			"$TTL 30\n@ SOA rpz.urlhaus.abuse.ch. hostmaster.urlhaus.abuse.ch. 2202170343 300 1800 604800 30\n NS localhost.\n;\n" +
				"testentry.rpz.urlhaus.abuse.ch CNAME . ; Test entry\n123hpcom.site CNAME .\n",
			[]string{"=testentry.rpz.urlhaus.abuse.ch", "=123hpcom.site"},
		},
		{
			"zone with an origin",
			"$ORIGIN rpz.example.\n@ IN SOA ns. h. 1 2 3 4 5\n IN NS ns.example.\nevil.test CNAME .\n  CNAME .\n" +
				"*.evil.test.RPZ.example. CNAME .\noutside.test. CNAME .\nrpz.example. CNAME .\n$ORIGIN com.rpz.example.\nbad CNAME .\n*.bad 60 CNAME .\n$ORIGIN .\nlow.test.rpz.example CNAME .\n",
			[]string{"=evil.test", "=evil.test", "*.evil.test", "!not-a-name", "!not-a-name", "=bad.com", "*.bad.com", "=low.test"},
		},
		{
			"zone as transferred",
			"rpz.example.\t60\tIN\tSOA\tns. h. 1 2 3 4 5\nrpz.example. 60 IN NS localhost.\nevil.test.rpz.example. 60 IN CNAME .\n32.1.2.0.192.rpz-ip.rpz.example. 60 IN CNAME .\n",
			[]string{"=evil.test", "!not-global"},
		},
		{
			"SOA over several lines",
			"$TTL\t864000\t; ten days\n@ IN SOA ns0.example.net. hostmaster.example.net. (\n 2008032800 ; serial number YYMMDDNN\n 288000\n" +
				" 7200\n 864000\n 864000 ) ; min ttl\n NS ns0.example.net.\n\n\t\tA\t0.0.0.0\n\n*\t\tIN A 0.0.0.0\nevil.test A 0.0.0.0\n",
			[]string{"!not-a-name", "!wildcard-inside", "=evil.test"},
		},
		{"SOA without a closing parenthesis", "@ SOA a. b. (\n" + strings.Repeat("1\n", maxSOALines) + "evil.test\n", []string{"evil.test"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, read(t, tt.list)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestRedirectRecordsAreBlocks checks that records that redirect a name are blocks: to the landing page of a CERT, or to a sinkhole.
func TestRedirectRecordsAreBlocks(t *testing.T) {
	opt := Options{RedirectsBlock: true}
	for line, want := range map[string]string{
		"evil.example CNAME warning.cert.example.":           "=evil.example",
		"*.evil.example 5 IN CNAME warning.cert.example.":    "*.evil.example",
		"evil.example A 198.51.100.66":                       "=evil.example",
		"evil.example AAAA 2001:db8::66":                     "=evil.example",
		"32.66.184.93.93.rpz-ip CNAME warning.cert.example.": "93.93.184.66/32",
		"evil.example CNAME rpz-passthru.":                   "@=evil.example",
		"evil.example CNAME rpz-tcp-only.":                   "@=evil.example !redirect",
		"198.51.100.66 evil.example":                         "=evil.example",
		"address=/evil.example/198.51.100.66":                "evil.example",
		"server=/good.example/192.0.2.1":                     "@good.example !redirect",
		"||evil.example^$dnsrewrite=198.51.100.66":           "evil.example",
	} {
		if got := strings.Join(readAs(t, opt, line), " "); got != want {
			t.Errorf("%q: got %s, want %s", line, got, want)
		}
	}
	zone := "evil.example CNAME warning.cert.example.\ntwo.example A 198.51.100.66\n"
	_, err := Parse(strings.NewReader(zone), Options{}, &transcript{t: t})
	if !errors.Is(err, ErrNotAList) || !strings.Contains(err.Error(), `set policy = "block"`) {
		t.Errorf("a zone of redirects only: %v", err)
	}
}

func TestAllowingTurnsBlocksIntoAllows(t *testing.T) {
	s := &transcript{t: t}
	list := "a.example\n@@||b.example^\n0.0.0.0 c.example\nd.example CNAME rpz-passthru.\nlocalhost\n||a.example^$badfilter"
	if _, err := Parse(strings.NewReader(list), Options{}, Allowing(s)); err != nil {
		t.Fatal(err)
	}
	want := []string{"+a.example", "+b.example", "+=c.example", "+=d.example", "!local-name", "-a.example"}
	if diff := cmp.Diff(want, s.lines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestNonListContentIsRefused(t *testing.T) {
	for name, list := range map[string]string{
		"HTML page":                        "\n  <!DOCTYPE html>\n<html>\nexample.com\n</html>",
		"HTML page with a byte order mark": "\ufeff<html>",
		"UTF-32":                           "\xff\xfe\x00\x00e\x00\x00\x00",
		"JSON":                             "{\n  \"error\": \"not found: example.com\"\n}",
		"error message":                    "404 Not Found\n",
		"only addresses":                   "192.0.2.1\n192.0.2.2\n",
		"binary":                           "\x7fELF\x02\x01\x01\x00\x00\n\x00\x00\xff\xfe\n",
	} {
		_, err := Parse(strings.NewReader(list), Options{}, &transcript{t: t})
		if !errors.Is(err, ErrNotAList) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for _, list := range []string{"", "# nothing yet\n", "\n\n"} {
		if stats, err := Parse(strings.NewReader(list), Options{}, &transcript{t: t}); err != nil || stats.Listings != 0 {
			t.Errorf("Parse(%q): %+v, %v; want no listing and no error", list, stats, err)
		}
	}
}

func TestGzip(t *testing.T) {
	packed := fetchtest.Gzip(t, "a.example\nb.example\n")
	if diff := cmp.Diff([]string{"a.example", "b.example"}, read(t, packed)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, list := range map[string]string{"cut": packed[:len(packed)-9], "header only": packed[:4], "garbage": "\x1f\x8bgarbage"} {
		if _, err := Parse(strings.NewReader(list), Options{}, &transcript{t: t}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	bomb := fetchtest.Gzip(t, strings.Repeat("a.example\n", 100_000))
	if _, err := parse(strings.NewReader(bomb), Options{}, &transcript{t: t}, 999_999); !errors.Is(err, bounded.ErrTooLarge) {
		t.Errorf("bomb: error %v", err)
	}
	if _, err := parse(strings.NewReader(bomb), Options{}, &transcript{t: t}, 1_000_000); err != nil {
		t.Errorf("exactly as long as the limit: %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader("a.example\n"), iotest.ErrReader(broken))
	if _, err := Parse(r, Options{}, &transcript{t: t}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	s := &transcript{t: t}
	if _, err := Parse(iotest.OneByteReader(strings.NewReader("a.example\nb.example")), Options{}, s); err != nil || len(s.lines) != 2 {
		t.Errorf("Parse byte by byte: %v, %v; want two listings", s.lines, err)
	}
}

func TestStats(t *testing.T) {
	stats, err := Parse(strings.NewReader("# c\n0.0.0.0 a.example localhost 10.0.0.1\n||b.example^$badfilter\n\nc.example"), Options{}, &transcript{t: t})
	if err != nil {
		t.Fatal(err)
	}
	want := Stats{Format: Auto, Lines: 5, Listings: 2, Cancels: 1}
	want.Refused[LocalName], want.Refused[Address] = 1, 1
	if diff := cmp.Diff(want, stats); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"local-name": 1, "address": 1}, stats.Refused.Map()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"0.0.0.0 a.example b.example\n||c.example^$badfilter\n@@||d.example^\n*.e.example\n",
		"$ORIGIN rpz.example.\n@ SOA a. b. (\n1 )\nevil.test CNAME .\n  CNAME *.\n$ORIGIN .\n*.x.rpz.example CNAME rpz-passthru.\n",
		"address=/a.example/#\nlocal-zone: \"b.example.\" always_null\nhxxp://c[.]example:80/\n[[.].]\n",
		"\ufeffdiscörd.com\rxn--kr.com\n\xff\xfe\x00\n://[::1]\n/x/\n@\n|\n$\n\x1f\x8b",
		"24.0.216.184.93.rpz-ip CNAME .\n48.zz.2800.2606.rpz-ip A 0.0.0.0\nx.rpz-nsdname CNAME .\n",
		"# id,url,type,valid_until\n\"1\",\"http://a.example/\",\"url\",\"2030-01-01\"\n2,\"b\nc\",domain,\n",
		`{"allow":["a.example"],"deny":["b.example"],"data":[{"domain":"c.example","tags":["phishing"],"deletedate":null}]}`,
		`{"Event":{"Object":[{"Attribute":[{"type":"domain|ip","value":"a.example|192.0.2.1","to_ids":true,"timestamp":"1513893921"}]}]}}`,
		`{"objects":[{"type":"indicator","id":"indicator--1","pattern":"[domain-name:value IN ('a.example','b') OR url:value='http:\/\/c.example']"}]}`,
		"PK\x05\x06", "BZh91AY&SY", "\x28\xb5\x2f\xfd", fetchtest.Gzip(f, "a.example\n"), packZip(f, "a.example", "[\"b.example\"]"), bzipped,
	} {
		for i := range Formats() {
			f.Add(byte(i), i%2 == 0, []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, format byte, deep bool, list []byte) {
		formats := Formats()
		opt := Options{Format: formats[int(format)%len(formats)], DeepURLs: deep, SharedHost: func(name []byte) bool {
			checkName(t, name)
			return len(name)%5 == 0
		}}
		s := &transcript{t: t}
		stats, err := parse(bytes.NewReader(list), opt, s, 1<<20)
		if n := stats.Listings + stats.Cancels + stats.Refused.Total(); n != len(s.lines) {
			t.Errorf("%d lines were counted, but the sink received %d", n, len(s.lines))
		}
		if err == nil && opt.Format == Auto && stats.Format == Auto && bytes.Equal(plainOf(list), list) {
			checkUsual(t, list, opt, s.lines)
		}
	})
}

// plainOf returns the unpacked list, or nil if it cannot be unpacked.
func plainOf(list []byte) []byte {
	r, err := plainText(bytes.NewReader(list), 1<<20)
	if err != nil {
		return nil
	}
	text, _ := io.ReadAll(r)
	return text
}

// checkUsual fails t if reading every line of a list without the shortcuts of the parser does not give want.
func checkUsual(t *testing.T, list []byte, opt Options, want []string) {
	s := &transcript{t: t}
	p := &parser{opt: opt, sink: s, name: make([]byte, 0, maxWire+1)}
	if err := p.lines(bufio.NewReaderSize(bytes.NewReader(list), MaxLine), p.mixedLine); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(want, s.lines); diff != "" {
		t.Errorf("(-with shortcuts +without)\n%s", diff)
	}
}

// counting is a Sink that only counts listings.
type counting struct{ n int }

func (c *counting) Add(int, blocklist.Listing)          { c.n++ }
func (c *counting) Cancel(int, []byte, blocklist.Scope) {}
func (c *counting) Refuse(int, Reason)                  {}

func BenchmarkParse(b *testing.B) {
	const names = 100_000
	forms := map[string]string{"plain": "%s\n", "hosts": "0.0.0.0 %s\n", "adblock": "||%s^\n", "rpz": "%s CNAME .\n",
		"csv": "\"1\",\"%s\",\"x\"\n", "json": "{\"id\":1,\"domain\":\"%s\",\"tags\":[\"x\"]}\n"}
	for _, form := range []string{"plain", "hosts", "adblock", "rpz", "csv", "json"} {
		opt := Options{}
		if form == "csv" {
			opt.Format = CSV
		}
		b.Run(form, func(b *testing.B) {
			var list strings.Builder
			for i := range names {
				fmt.Fprintf(&list, forms[form], fmt.Sprintf("host-%d.some-domain%d.example", i, i%977))
			}
			b.SetBytes(int64(list.Len()))
			b.ReportAllocs()
			for b.Loop() {
				var c counting
				if _, err := Parse(strings.NewReader(list.String()), opt, &c); err != nil || c.n != names {
					b.Fatalf("Parse: %d names, %v; want %d", c.n, err, names)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/names, "ns/name")
		})
	}
}

// realFeed returns a feed as its publisher wrote it. It skips the test if there is no copy.
func realFeed(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open("../../../shared/data/feeds/" + name)
	if err != nil {
		t.Skipf("no copy of the feed: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
