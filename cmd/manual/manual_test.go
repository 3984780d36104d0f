package manual_test

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/duoflow/duoflow/cmd/manual"
)

func TestOf(t *testing.T) {
	root := &cobra.Command{Use: "tool", Short: "Do things", Long: "tool does things:\n\n  a - b\n    .c\n\nand\n.no more"}
	root.PersistentFlags().StringP("output", "o", "table", "`form` of the answer")
	run := func(*cobra.Command, []string) {}
	sub := &cobra.Command{Use: "turn FILE", Short: "Turn a file", Example: "  tool turn it\\", Run: run}
	sub.Flags().Bool("dry-run", false, "change nothing")
	root.AddCommand(sub, &cobra.Command{Use: "secret", Short: "Never shown", Hidden: true, Run: run},
		manual.Command(manual.Program{Name: "tool", Section: 1, Foot: "tool 1", Also: []string{"other(8)"}}))
	var out strings.Builder
	root.SetOut(&out)
	root.SetArgs([]string{"manual"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		".TH \"TOOL\" 1 \"\" \"tool 1\" duoflow\n", "tool \\- do things\n", ".nf\n.RS 2\na \\- b\n  .c\n.RE\n.fi\n", "\n\\&.no more\n",
		".SS \"turn FILE\"\nTurn a file.\n", ".TP\n\\fB\\-\\-dry\\-run\\fR\nchange nothing\n", "tool turn it\\e\n",
		".TP\n\\fB\\-o, \\-\\-output\\fR form\nform of the answer (default table)\n", "other(8)\n",
	} {
		if !strings.Contains(strings.ReplaceAll(out.String(), ".PP\n", ""), want) {
			t.Errorf("the page has no %q:\n%s", want, out.String())
		}
	}
	for _, hidden := range []string{"secret", "Write the manual"} {
		if strings.Contains(out.String(), hidden) {
			t.Errorf("the page has %q", hidden)
		}
	}
}
