package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"

	"rempart/internal/spelling"
)

// Variable is one setting with its value.
type Variable struct {
	Name    string // with the prefix
	Value   string // the default if the variable is not set; "(hidden)" for a secret that is set
	Default bool   // the variable is not set
}

// hidden stands for the value of a secret.
const hidden = "(hidden)"

// Variables returns every setting as environ sets it, in the order of the table. Secrets, and passwords in URLs, are hidden.
func Variables(environ map[string]string) (all []Variable) {
	eachField(func(f reflect.StructField) {
		v := Variable{Name: Prefix + f.Tag.Get("env")}
		set := environ[v.Name]
		switch {
		case set == "":
			v.Value, v.Default = f.Tag.Get("envDefault"), true
		case f.Tag.Get("secret") != "":
			v.Value = hidden
		default:
			v.Value = Redact(set)
		}
		all = append(all, v)
	})
	return all
}

// serviceVariable matches the end of the name of a variable by which Kubernetes describes a Service to every container of its namespace. If the Service is
// named "rempart", these variables have Rempart's prefix.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// Unknown returns a sentence, with advice, for each variable of environ that has Rempart's prefix, in any case, but is not one of its variables: in misspelt
// for variables similar to a setting, in others for the rest. The sentences are sorted. Variables of Kubernetes are skipped.
func Unknown(environ map[string]string) (misspelt, others []string) {
	var known []string
	eachField(func(f reflect.StructField) { known = append(known, Prefix+f.Tag.Get("env")) })
	for name := range environ {
		if len(name) < len(Prefix) || !strings.EqualFold(name[:len(Prefix)], Prefix) || slices.Contains(known, name) || serviceVariable.MatchString(name) {
			continue
		}
		if instead, ok := removed[name]; ok {
			misspelt = append(misspelt, name+" is no longer a setting of Rempart: "+instead)
			continue
		}
		text := name + " is not a setting of Rempart: "
		if near := spelling.Nearest(name, known); near != "" {
			misspelt = append(misspelt, text+"write "+near)
		} else {
			others = append(others, text+`"rempart settings --all" lists the settings`)
		}
	}
	slices.Sort(misspelt)
	slices.Sort(others)
	return misspelt, others
}

// removed are variables of earlier versions, and what to do instead. A server that ignored one would lack what it configured.
var removed = map[string]string{
	Prefix + "NATS_LISTEN": "remove it; nodes follow control over HTTPS, so set " + Prefix + "CONTROL=https://.../v1/journal on them (" + Prefix + "PUSH_LISTEN of control)",
}

// SetVariables returns the names of the variables of environ that are set and determine which set a server has.
func SetVariables(environ map[string]string) (set []string) {
	for _, name := range []string{"LISTS", "FEEDS", "CONTROL"} {
		if environ[Prefix+name] != "" {
			set = append(set, Prefix+name)
		}
	}
	return set
}

func eachField(each func(reflect.StructField)) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if !f.Anonymous { // its fields follow
			each(f)
		}
	}
}
