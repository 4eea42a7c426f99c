kdlab pipeline -m experiment=helpsteer2 'fold=range(0,10)' && kdlab report multirun/helpsteer2
