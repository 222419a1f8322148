"""Networks of other papers under the names of their released code, one file a family."""
