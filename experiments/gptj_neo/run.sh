kdlab train experiment=gptj_neo
