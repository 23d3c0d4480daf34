package flow

// sizeOf is about how many bytes of memory a value of JSON takes, as Go has it, shared parts each time they stand in it.
// It stops looking once it has found more than most.
func sizeOf(v any, most int) int {
	switch v := v.(type) {
	case string:
		return 16 + len(v)
	case []any:
		size := 24 + 24*len(v)
		for _, item := range v {
			if size > most {
				break
			}
			size += sizeOf(item, most-size)
		}
		return size
	case map[string]any:
		size := sizeOfMap(len(v))
		for name, value := range v {
			if size > most {
				break
			}
			size += len(name) + sizeOf(value, most-size)
		}
		return size
	}
	return 8
}

// sizeOfMap is about what a map takes without its values: Go makes room for eight at least.
func sizeOfMap(fields int) int {
	switch {
	case fields == 0:
		return 48
	case fields <= 8:
		return 320
	}
	return 64 + 64*fields
}

// atLeast is a number of bytes that sizeOf will find or more, of a value that is still JSON: a list of small objects takes fifty times the
// memory of its text, and a value without many objects and lists is not much larger than that.
func atLeast(data []byte) int {
	size, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[':
			size += 24
		case c == '{' && i+1 < len(data) && data[i+1] == '"':
			size += sizeOfMap(1)
		}
	}
	return size
}

// deeper reports whether a value is nested more than so deep.
func deeper(v any, than int) bool {
	if than < 0 {
		return true
	}
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			switch item.(type) {
			case []any, map[string]any:
				if deeper(item, than-1) {
					return true
				}
			}
		}
	case map[string]any:
		for _, value := range v {
			switch value.(type) {
			case []any, map[string]any:
				if deeper(value, than-1) {
					return true
				}
			}
		}
	}
	return false
}

// jsonSizeOf is at least how many bytes of JSON a value makes, but for numbers, of which it takes all to be long. It stops looking once it
// has found more than most: what is shared in memory is written out each time, so that little memory may be much text.
func jsonSizeOf(v any, most int) int {
	switch v := v.(type) {
	case string:
		return textSizeOf(v)
	case []any:
		size := 2 + len(v)
		for _, item := range v {
			if size > most {
				break
			}
			size += jsonSizeOf(item, most-size)
		}
		return size
	case map[string]any:
		size := 2 + 2*len(v)
		for name, value := range v {
			if size > most {
				break
			}
			size += textSizeOf(name) + jsonSizeOf(value, most-size)
		}
		return size
	}
	return 4
}

// textSizeOf is how many bytes of JSON a text makes.
func textSizeOf(s string) int {
	size := 2 + len(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c == '<', c == '>', c == '&':
			size += 5
		case c == '"', c == '\\':
			size++
		}
	}
	return size
}
