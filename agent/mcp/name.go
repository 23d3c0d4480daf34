package mcp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// nameOf is what models call a tool of a server. Server names have no "_", so that names of
// two servers never meet.
func nameOf(server, tool string) string {
	name := server + "_" + tool
	if modelName.MatchString(name) {
		return name
	}
	sum := sha256.Sum256([]byte(tool))
	mark := "_" + hex.EncodeToString(sum[:4])
	name = strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, name)
	return name[:min(len(name), 64-len(mark))] + mark
}
