package main

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// unknownField is the part of an error of YAML that names a field; others quote values.
var unknownField = regexp.MustCompile(`line \d+: field \S+ not found`)

// readByName reads settings of one kind, by their names, as YAML or JSON. Names of fields that there are not are refused. The error
// says how they are written, and repeats nothing of what was read: it may hold a key.
func readByName[T any](text []byte, into *map[string]T, written string) error {
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var read map[string]T
	err := d.Decode(&read)
	if known := unknownField.FindString(fmt.Sprint(err)); known != "" {
		return errors.New(written + "; " + known)
	}
	if err != nil {
		return errors.New(written)
	}
	*into = read
	return nil
}

// readNode reads what stands in the file of settings as the same in a variable is read.
func readNode(n *yaml.Node, into encoding.TextUnmarshaler) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	return into.UnmarshalText(text)
}

// showByName names all of them, with what shown tells of one.
func showByName[T any](all map[string]T, shown func(T) string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, name+": "+shown(all[name]))
	}
	return strings.Join(out, ", ")
}
