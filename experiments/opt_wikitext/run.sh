kdlab train experiment=opt_wikitext
