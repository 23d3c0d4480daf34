package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// splitWords does what cobra's script wants of the package bash-completion, for a shell that has not got it:
// it puts the words together again that bash has taken apart at = and at :.
const splitWords = `    # Without the package bash-completion.
    local i rest=${COMP_LINE} word
    words=() cword=0
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 0)) && [[ ${rest} != [[:blank:]]* && (${word} == [=:]* || ${COMP_WORDS[i-1]} == *[=:]) ]]; then
            words[${#words[@]}-1]+=${word}
        else
            words[${#words[@]}]=${word}
        fi
        rest=${rest#"${rest%%[![:blank:]]*}"}
        rest=${rest#"${word}"}
        if ((i == COMP_CWORD)); then
            cword=$((${#words[@]} - 1))
        fi
    done
    cur=${words[cword]} prev=
    if ((cword > 0)); then
        prev=${words[cword-1]}
    fi`

// needsPackage is the line of cobra's script that calls the package.
const needsPackage = `    _get_comp_words_by_ref "$@" cur prev words cword`

// bashCompletion lets the script for bash work without the package bash-completion too.
func (a *app) bashCompletion(cmd *cobra.Command) {
	cmd.Long = strings.Replace(cmd.Long, `This script depends on the 'bash-completion' package.
If it is not installed already, you can install it via your OS's package manager.`,
		`It works with the package bash-completion, which loads it from the directories below, and without it: then
load it in ~/.bashrc.`, 1)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		plain, err := cmd.Flags().GetBool("no-descriptions")
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := cmd.Root().GenBashCompletionV2(&b, !plain); err != nil {
			return err
		}
		script := strings.Replace(b.String(), needsPackage, splitWords, 1)
		if script == b.String() {
			return fmt.Errorf("the script for bash is not the one that is known: it has no line %q", strings.TrimSpace(needsPackage))
		}
		_, err = io.WriteString(a.stdout, script)
		return err
	}
}
