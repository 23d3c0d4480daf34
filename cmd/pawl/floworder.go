package main

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/flow"
)

// childrenFirst puts flows before those that run them, so that whoever is deployed finds what it runs. Of flows that run
// each other the order stays.
func childrenFirst(files []deployedFile) {
	ids := map[string]int{}
	runs := make([][]string, len(files))
	for i, f := range files {
		data, err := flow.JSON(f.data)
		if err != nil {
			continue // it is told elsewhere
		}
		var doc any
		if json.Unmarshal(data, &doc) == nil {
			object, _ := doc.(map[string]any)
			id, _ := object["id"].(string)
			ids[id] = i
			runs[i] = childrenIn(doc)
		}
	}
	var order []deployedFile
	seen := make([]bool, len(files))
	var put func(i int)
	put = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		for _, id := range runs[i] {
			if child, is := ids[id]; is {
				put(child)
			}
		}
		order = append(order, files[i])
	}
	for i := range files {
		put(i)
	}
	copy(files, order)
}

// childrenIn are the names of workflows that steps and tools of agents name, in their order.
func childrenIn(v any) (names []string) {
	switch v := v.(type) {
	case map[string]any:
		if name, is := v["workflow"].(string); is {
			names = append(names, name)
		}
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			names = append(names, childrenIn(v[key])...)
		}
	case []any:
		for _, item := range v {
			names = append(names, childrenIn(item)...)
		}
	case string:
		if name, is := strings.CutPrefix(v, "flow:"); is {
			names = append(names, name)
		}
	}
	return names
}
