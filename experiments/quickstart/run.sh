kdlab train -m experiment=quickstart seed=0,1
