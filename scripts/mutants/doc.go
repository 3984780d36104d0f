// Package main takes one mend at a time out of the code and wants the named test to fail.
//
//	mutants [-o table|json] [-only WORD] [-parallel N] [-v] FILE...
//
// A FILE (mutants.txt beside the code) holds sections such as
//
//	== terminate without NOLOGIN
//	file functions.sql
//	test TestTheOldRoleCannotLogIn
//	-    EXECUTE format('ALTER ROLE %I NOLOGIN', p_role);
//	+    NULL;
//
// The lines with a minus must be in the file exactly once, one after the other; those with a plus take their place. A
// minus after a plus begins another place.
// Each of several tests, with spaces between, must fail; Test/part is a part of one. `tags` are build tags. `on` names versions of Postgres, each of which must see the mutant (scripts/test-pg fetches the
// servers). `package` is the folder of the test when that is not FILE's. Nothing is written to the tree: the compiler gets
// the changed file as an overlay. Each test must first pass on the code as it is. So the product holds no switch, not even one
// behind a build tag, that turns a rule off.
//
// Exit codes: 0 each was caught, 1 not, 2 usage.
package main
