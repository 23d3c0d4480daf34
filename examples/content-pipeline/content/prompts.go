package content

import (
	"fmt"

	"github.com/pawlrun/pawl/agent"
)

const draftSystem = `You write short articles for the readers you are told of, in their
words. Begin with what they get out of it. Invent no facts and no quotes. The title has at
most 12 words; the body is Markdown without a title, 200 to 400 words.`

const reviseSystem = `You revise an article after a reviewer's comment. Do what the comment
asks and leave the rest as it is. The title has at most 12 words; the body is Markdown
without a title.`

func draftCall(in Input) agent.Call {
	return agent.Call{System: draftSystem, Prompt: fmt.Sprintf("Topic: %s\nAudience: %s", in.Topic, in.Audience)}
}

func reviseCall(in Input, d Article, comment string) agent.Call {
	return agent.Call{System: reviseSystem, Prompt: fmt.Sprintf("Topic: %s\nAudience: %s\nComment: %s\n\n# %s\n\n%s",
		in.Topic, in.Audience, comment, d.Title, d.Body)}
}
