kdlab train experiment=flan_t5_dolly
