import 'tabreel/element';
