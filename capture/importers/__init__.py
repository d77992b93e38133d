"""Import flows from files that are not captures: labelled traces and tables of other tools."""
